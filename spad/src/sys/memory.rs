//! What the allocator keeps and nobody uses.

/// Lets the allocator keep no more than 128 KiB at the end of each of its heaps. It would
/// keep more with each large value that is freed, as a table that has grown; of a
/// thread's heap, [`give_back`] does not reach the end.
pub(crate) fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and sets two numbers under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024)
    };
}

/// Gives free memory back to the system. After a crowd was read, or a gate was
/// replaced, it lies between what stays, where the allocator would leave it.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, locks what it looks at, and touches only pages
    // of the heap that are free.
    unsafe {
        libc::malloc_trim(0)
    };
}
