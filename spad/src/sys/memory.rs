//! What the allocator keeps and nobody uses.

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
