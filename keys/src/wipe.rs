//! Keys that have been worked with leave pieces on the stack: arguments, moved
//! values, the inside of a hash. Types that wipe themselves do not reach those.

use crate::os;

/// How much of the stack is wiped, in bytes: more than reading a record takes.
const DEPTH: usize = 64 * 1024;

/// Sees to it that the keys in this process stay there: no core file, no debugger of the same
/// user. A program that is executed in its place begins anew. Linux alone has that; elsewhere it
/// does nothing.
pub fn keep_to_itself() {
    os::keep_to_itself();
}

/// Does something that handles keys, and wipes the stack that it used. The
/// result must have no key in itself, outside of a box.
pub fn stack_after<T>(act: impl FnOnce() -> T) -> T {
    let done = apart(act);
    stack();
    done
}

/// In a frame of its own, which `stack` then gets.
#[inline(never)]
fn apart<T>(act: impl FnOnce() -> T) -> T {
    act()
}

/// Wipes the stack beyond the caller's own frame: what was called before, and has ended.
#[inline(never)]
pub fn stack() {
    std::hint::black_box(&mut [0_u8; DEPTH]);
}
