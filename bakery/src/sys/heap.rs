//! Parameters of the allocator.

/// Allocations from this length on get pages of their own, bytes; the buffers of chunks are smaller.
const OWN_PAGES_LEN: libc::c_int = 1 << 20;
/// Free bytes at the end of the heap that are kept for the next buffers of chunks.
const KEPT_LEN: libc::c_int = 8 << 20;

/// Makes the allocator return large blocks to the kernel as soon as they are freed. By default it raises the
/// limit whenever such a block is freed, and then keeps the memory of tables that a bake needs one after the
/// other. To be called before threads start.
pub(crate) fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: integer arguments only; unsupported requests fail without effect.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_LEN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_LEN);
    }
}
