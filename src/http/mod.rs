//! Floor 3: HTTP. Turns requests into messages, and answers and errors into replies.
//!
//! It knows floor 0 and [`crate::actors::messages`], never storage or the Raft library.

mod admission;
mod error;
mod headers;
mod options;
mod reply;
mod target;

pub use options::{FollowerMode, HttpOptions};
