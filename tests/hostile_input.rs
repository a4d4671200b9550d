//! Every decoder on the corpora of the fuzz targets, and on what chance makes of them: what `cargo fuzz` found stays
//! found on any toolchain. The decoders are those of `fuzz/src`, which say what each is given.
//!
//! A failure names the decoder and prints the input as it has to stand in a file of the corpus, in hexadecimal
//! digits (`xxd -r -p`). `CONURE_HOSTILE_SEED` repeats a run, `CONURE_HOSTILE_INPUTS` makes a longer one.

#![allow(clippy::disallowed_methods)] // files of corpora, threads and chance are the point

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

#[path = "../fuzz/src/lib.rs"]
mod decoders;

use decoders::{DECODERS, Decoder};

/// Inputs made of each decoder's corpus.
const INPUTS: u64 = 400;

/// Longest input that is made.
const MOST_BYTES: usize = 1 << 14;

#[test]
fn corpora_of_fuzzing_and_what_chance_makes_of_them_are_refused_or_understood() {
    let given = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let inputs = given("CONURE_HOSTILE_INPUTS").unwrap_or(INPUTS);
    let seed: u64 = given("CONURE_HOSTILE_SEED").unwrap_or_else(rand::random);
    println!("seed {seed}");
    for (name, decode) in DECODERS {
        // Recursion has the stack that a thread of the program has.
        let decoder = thread::spawn(move || run((name, decode), inputs, seed));
        decoder.join().unwrap_or_else(|_| panic!("{name} failed, seed {seed}"));
    }
}

fn run((name, decode): Decoder, inputs: u64, seed: u64) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for input in &corpus {
        attempt(name, decode, input);
    }
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..inputs {
        attempt(name, decode, &vary(&corpus, &mut rng));
    }
}

/// Prints the input of a decoder that panics.
fn attempt(name: &str, decode: fn(&[u8]), input: &[u8]) {
    struct Told<'a>(&'a str, &'a [u8]);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                let digits: String = self.1.iter().map(|byte| format!("{byte:02x}")).collect();
                println!("{} on these {} bytes: {digits}", self.0, self.1.len());
            }
        }
    }
    let _told = Told(name, input);
    decode(input);
}

/// The files of a corpus, in order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a file of the corpus")).collect()
}

/// One or a part of two inputs of a corpus, with some bytes changed, put in, or taken out.
fn vary(corpus: &[Vec<u8>], rng: &mut SmallRng) -> Vec<u8> {
    let any = |rng: &mut SmallRng| &corpus[rng.random_range(0..corpus.len())];
    let mut input = any(rng).clone();
    if rng.random_ratio(1, 3) {
        let other = any(rng);
        input.truncate(rng.random_range(0..=input.len()));
        input.extend_from_slice(&other[rng.random_range(0..=other.len())..]);
    }
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=input.len());
        match rng.random_range(0..6) {
            0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            1 if at < input.len() => input[at] = rng.random(),
            2 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
            3 => {
                let len = rng.random_range(0..=(input.len() - at).min(16));
                input.drain(at..at + len);
            }
            4 => {
                let bytes: Vec<u8> = (0..rng.random_range(0..16)).map(|_| rng.random()).collect();
                input.splice(at..at, bytes);
            }
            _ => {
                let len = rng.random_range(0..=(input.len() - at).min(64));
                let again = input[at..at + len].to_vec();
                input.splice(at..at, again);
            }
        }
    }
    input.truncate(MOST_BYTES);
    input
}
