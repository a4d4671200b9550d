//! Names of threads, for who looks at a node with `top -H` or `perf`: the arbiters of the actor framework name theirs
//! all alike.

use std::ffi::CStr;

/// Names this thread; the system shows 15 bytes of it.
pub fn name(name: &CStr) {
    // A thread without a name of its own works as well.
    let _ = rustix::thread::set_name(name);
}
