//! `conure-sim crash` and `flips` as CI runs them, through the real binary, with fewer images than there.

use std::process::{Command, Output};

use serde_json::Value;

/// What fits into half a minute of a build that is not optimized.
const IMAGES: u64 = 6_000;
const FLIPS: u64 = 3_000;

fn sim(arguments: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conure-sim"));
    command.args(arguments).output().expect("the program was built")
}

/// The last line of a run that found nothing wrong.
#[track_caller]
fn report(arguments: &[String]) -> Value {
    let output = sim(arguments);
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    serde_json::from_str(said.lines().last().expect("a last line")).expect("an object")
}

#[test]
fn every_image_of_a_power_cut_holds_what_was_durable() {
    let found = report(&["crash".into(), format!("--images={IMAGES}"), "--json".into()]);
    assert_eq!(found, serde_json::json!({ "images": IMAGES, "bad": 0 }));
}

#[test]
fn no_bit_that_flips_is_served() {
    let found = report(&["flips".into(), format!("--flips={FLIPS}"), "--json".into()]);
    assert_eq!((&found["flips"], &found["served"]), (&FLIPS.into(), &0.into()));
    let count = |name: &str| found[name].as_u64().expect(name);
    assert_eq!(count("refused") + count("found_by_check") + count("unused"), FLIPS);
    assert!(count("refused") > FLIPS / 10, "{found}");
}

#[test]
fn an_image_is_made_again_by_its_seed() {
    // Of workload 2, a node; before its call 40, with a cut by chance.
    let seed = (2_u64 << 20 | 40) << 4 | 3;
    let arguments = ["crash".to_owned(), format!("--seed={seed}")];
    let (once, again) = (sim(&arguments), sim(&arguments));
    let text = String::from_utf8_lossy(&once.stdout);
    assert!(text.contains(&format!("image {seed} of workload 2, after")), "{text}");
    let without_time = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .take_while(|line| !line.contains("1 images"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(without_time(&once), without_time(&again));
    assert_eq!(sim(&["crash".to_owned(), "--seed=15".to_owned()]).status.code(), Some(2));
}
