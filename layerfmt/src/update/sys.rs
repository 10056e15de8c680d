//! The calls of zlib and of zstd's blocks, which have no safe interface with all parameters.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use libz_sys::{
    Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_OK, Z_STREAM_END, deflate, deflateEnd,
    deflateInit2_, inflate, inflateEnd, inflateInit2_, uInt, z_stream, zlibVersion,
};

use zstd::zstd_safe::compress_bound;
use zstd::zstd_safe::zstd_sys::{
    ZSTD_CCtx, ZSTD_compressBegin_advanced, ZSTD_compressContinue, ZSTD_compressEnd,
    ZSTD_createCCtx, ZSTD_freeCCtx, ZSTD_getParams, ZSTD_isError,
};

/// Log2 of the window; negative: a raw stream without header and trailer.
const RAW_WINDOW_LOG: i32 = -15;

/// Length of `z_stream`, for zlib's check.
#[allow(clippy::cast_possible_truncation)] // some 100 bytes
const STREAM_LEN: i32 = size_of::<z_stream>() as i32;

/// A stream of zlib; dropping it frees its memory.
struct Stream {
    stream: Box<z_stream>,
    end: unsafe extern "C" fn(*mut z_stream) -> i32,
}

impl Stream {
    /// Calls `begin` with a zeroed stream; `None` if it refuses.
    fn new(
        end: unsafe extern "C" fn(*mut z_stream) -> i32,
        begin: impl FnOnce(*mut z_stream) -> i32,
    ) -> Option<Stream> {
        let mut stream = Box::<MaybeUninit<z_stream>>::new(MaybeUninit::zeroed());
        if begin(stream.as_mut_ptr()) != Z_OK {
            return None;
        }
        // SAFETY: a zeroed stream with the default allocator is what zlib asks for, and it has
        // filled the function pointers in.
        let stream = unsafe { stream.assume_init() };
        Some(Stream { stream, end })
    }

    /// One call of `step` with all of `input` and the free capacity of `out`, at most `len`;
    /// returns the code and the number of bytes read.
    fn step(
        &mut self,
        step: unsafe extern "C" fn(*mut z_stream, i32) -> i32,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<(i32, usize)> {
        let room = out.spare_capacity_mut();
        self.stream.next_in = input.as_ptr().cast_mut();
        self.stream.avail_in = uInt::try_from(input.len()).ok()?;
        self.stream.next_out = room.as_mut_ptr().cast();
        self.stream.avail_out = uInt::try_from(room.len()).ok()?;
        let room_len = room.len();
        // SAFETY: input and output are valid for the given lengths during the call, and zlib only
        // reads the input.
        let code = unsafe { step(&raw mut *self.stream, Z_FINISH) };
        let made = room_len.checked_sub(self.stream.avail_out as usize)?;
        // SAFETY: zlib has written `made` bytes from the start of the free capacity.
        unsafe { out.set_len(out.len() + made) };
        Some((
            code,
            input.len().checked_sub(self.stream.avail_in as usize)?,
        ))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the stream was begun by the partner of `end`.
        unsafe { (self.end)(&raw mut *self.stream) };
    }
}

/// Compresses `raw` to one deflate stream of at most `len_max` bytes.
pub(super) fn deflate_raw(
    raw: &[u8],
    level: i32,
    mem_level: i32,
    len_max: usize,
) -> Option<Vec<u8>> {
    let mut stream = Stream::new(deflateEnd, |stream| {
        // SAFETY: a zeroed stream is valid for this call.
        unsafe {
            deflateInit2_(
                stream,
                level,
                Z_DEFLATED,
                RAW_WINDOW_LOG,
                mem_level,
                Z_DEFAULT_STRATEGY,
                zlibVersion(),
                STREAM_LEN,
            )
        }
    })?;
    let mut out = reserved(len_max)?;
    let (code, _) = stream.step(deflate, raw, &mut out)?;
    (code == Z_STREAM_END).then_some(out)
}

/// Decompresses the deflate stream at the start of `packed` to at most `len_max` bytes; also
/// returns the length of the stream.
pub(super) fn inflate_raw(packed: &[u8], len_max: usize) -> Option<(Vec<u8>, usize)> {
    let mut stream = Stream::new(inflateEnd, |stream| {
        // SAFETY: a zeroed stream is valid for this call.
        unsafe { inflateInit2_(stream, RAW_WINDOW_LOG, zlibVersion(), STREAM_LEN) }
    })?;
    let mut out = reserved(len_max)?;
    let (code, read) = stream.step(inflate, packed, &mut out)?;
    (code == Z_STREAM_END).then_some((out, read))
}

fn reserved(len: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(len).ok()?;
    Some(out)
}

/// A context of zstd; dropping it frees its memory.
struct Context(NonNull<ZSTD_CCtx>);

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was made by zstd, and nobody else has it.
        unsafe { ZSTD_freeCCtx(self.0.as_ptr()) };
    }
}

impl Context {
    /// Calls `step` with `input` and the free capacity of `out`; `None` if it fails.
    fn step(
        &mut self,
        step: unsafe extern "C" fn(
            *mut ZSTD_CCtx,
            *mut std::ffi::c_void,
            usize,
            *const std::ffi::c_void,
            usize,
        ) -> usize,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let room = out.spare_capacity_mut();
        let room_len = room.len();
        // SAFETY: the context was begun; input and output are valid for the given lengths, and the input of
        // earlier steps, to which zstd refers, is the start of the same slice.
        let made = unsafe {
            step(
                self.0.as_ptr(),
                room.as_mut_ptr().cast(),
                room_len,
                input.as_ptr().cast(),
                input.len(),
            )
        };
        // SAFETY: no memory is involved.
        if unsafe { ZSTD_isError(made) } != 0 || made > room_len {
            return None;
        }
        // SAFETY: zstd has written `made` bytes from the start of the free capacity.
        unsafe { out.set_len(out.len() + made) };
        Some(())
    }
}

/// Length of the pieces in which a worker thread of zstd compresses.
const JOB_PIECE_LEN: usize = 512 << 10;

/// Compresses `raw` to one frame with a checksum in the way of a worker thread of zstd.
pub(super) fn zstd_job(raw: &[u8], level: i32) -> Option<Vec<u8>> {
    // SAFETY: no argument.
    let mut context = Context(NonNull::new(unsafe { ZSTD_createCCtx() })?);
    // SAFETY: integer arguments only.
    let mut parameters = unsafe { ZSTD_getParams(level, raw.len() as u64, 0) };
    parameters.fParams.checksumFlag = 1;
    // SAFETY: no dictionary.
    let begun = unsafe {
        ZSTD_compressBegin_advanced(
            context.0.as_ptr(),
            ptr::null(),
            0,
            parameters,
            raw.len() as u64,
        )
    };
    // SAFETY: no memory is involved.
    if unsafe { ZSTD_isError(begun) } != 0 {
        return None;
    }
    let mut out = reserved(compress_bound(raw.len()))?;
    let mut rest = raw;
    while rest.len() > JOB_PIECE_LEN {
        let (piece, after) = rest.split_at(JOB_PIECE_LEN);
        context.step(ZSTD_compressContinue, piece, &mut out)?;
        rest = after;
    }
    context.step(ZSTD_compressEnd, rest, &mut out)?;
    Some(out)
}
