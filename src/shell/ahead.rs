//! What is typed while a command runs: the next prompt takes all of it, or the question that the command asks.
//!
//! In its usual mode a terminal makes lines of what is typed, and a newline of each Enter. The editor of the prompt
//! takes a carriage return for Enter. Newlines that wait for it come in one go, as a program's paste does, and of those
//! it drops what follows the first. So from the first prompt to the last the terminal hands on what is typed as it is, shows
//! none of it, which is the next prompt's to do, and only makes signals of Ctrl-C and its like. A program that
//! a command runs has the terminal as it was before.

use std::io;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The terminal as it was before the first prompt; there is one for a process.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal between prompts, for as long as this lives.
pub struct TypedAhead(());

impl TypedAhead {
    /// Does nothing to what is no terminal.
    pub fn keep() -> TypedAhead {
        *before() = tcgetattr(io::stdin()).ok();
        take();
        TypedAhead(())
    }

    /// The terminal as it was, for as long as what is returned lives.
    pub fn lend(&mut self) -> Lent<'_> {
        before().iter().for_each(set);
        Lent(PhantomData)
    }
}

impl Drop for TypedAhead {
    fn drop(&mut self) {
        put_back();
    }
}

/// See [`TypedAhead::lend`].
pub struct Lent<'a>(PhantomData<&'a mut TypedAhead>);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        take();
    }
}

/// Has the terminal hand on what is typed.
fn take() {
    if let Some(mut modes) = before().clone() {
        modes.input_modes -= InputModes::ICRNL;
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        set(&modes);
    }
}

/// Puts the terminal back as it was, if it was changed.
pub fn put_back() {
    before().take().iter().for_each(set);
}

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A terminal that has gone refuses, and nobody looks at it.
fn set(modes: &Termios) {
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
}
