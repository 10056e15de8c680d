//! The calls of zlib, which has no safe interface with all parameters of a stream.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use libz_sys::{
    Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_OK, Z_STREAM_END, deflate, deflateEnd,
    deflateInit2_, inflate, inflateEnd, inflateInit2_, uInt, z_stream, zlibVersion,
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
