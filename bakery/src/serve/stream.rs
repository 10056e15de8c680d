//! The server's side of a connection. The kernel sends mapped objects from their files.
//!
//! A write from a mapping copies each byte into the socket; `sendfile` passes references to the
//! pages of the page cache. Small parts go with the bytes around them in one ordinary write, which
//! is cheaper than one more system call.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::limits;
use crate::sys::sending::{FilePart, MappedFiles};

/// A connection that sends mapped objects without a copy.
pub(super) struct ObjectStream {
    stream: TcpStream,
    files: MappedFiles,
    /// False after the file system of the store has refused `sendfile`.
    sends_files: bool,
}

impl ObjectStream {
    /// Wraps a connection; `files` are the mappings that its answers come from.
    pub(super) fn new(stream: TcpStream, files: MappedFiles) -> Self {
        Self {
            stream,
            files,
            sends_files: true,
        }
    }

    /// The file of these bytes, if it pays to send them from there.
    fn part(&self, bytes: &[u8]) -> Option<FilePart> {
        let is_large = self.sends_files && bytes.len() >= limits::SENT_FROM_FILE_MIN;
        if is_large {
            self.files.part(bytes)
        } else {
            None
        }
    }

    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        part: &FilePart,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let mut offset = part.offset;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let file = part.file.as_ref();
                rustix::fs::sendfile(&self.stream, file, Some(&mut offset), bytes.len())
                    .map_err(io::Error::from)
            });
            return Poll::Ready(match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) if is_unsupported(&error) => {
                    self.sends_files = false;
                    return Pin::new(&mut self.stream).poll_write(context, bytes);
                }
                // The file is shorter than its mapping: nothing can follow.
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                sent => sent,
            });
        }
    }

    /// Sends bytes before a part of a file: the kernel waits for that part before it ends a packet.
    fn poll_send_before(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                rustix::net::send(&self.stream, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)
                    .map_err(io::Error::from)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        rustix::io::Errno::from_io_error(error),
        Some(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP)
    )
}

impl AsyncRead for ObjectStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ObjectStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.part(bytes) {
            Some(part) => self.poll_send_file(context, &part, bytes),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let found = slices
            .iter()
            .enumerate()
            .find_map(|(at, slice)| Some((at, self.part(slice)?, slice)));
        let Some((at, part, slice)) = found else {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        };
        let before = slices.get(..at).unwrap_or_default();
        let mut filled = before.iter().filter(|slice| !slice.is_empty());
        match (filled.next(), filled.next()) {
            (None, _) => self.poll_send_file(context, &part, slice),
            (Some(only), None) => self.poll_send_before(context, only),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, before),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Writes all slices as hyper does: until nothing is left.
    async fn write_all(stream: &mut ObjectStream, parts: &[&[u8]]) -> io::Result<()> {
        let mut left: Vec<&[u8]> = parts.to_vec();
        while !left.is_empty() {
            let slices: Vec<IoSlice<'_>> = left.iter().map(|part| IoSlice::new(part)).collect();
            let mut written = stream.write_vectored(&slices).await?;
            while let Some(first) = left.first_mut() {
                if written < first.len() {
                    *first = &first[written..];
                    break;
                }
                written -= first.len();
                left.remove(0);
            }
        }
        stream.flush().await
    }

    async fn pair(files: &MappedFiles) -> (ObjectStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (server, _) = listener.accept().await.unwrap();
        (ObjectStream::new(server, files.clone()), client.unwrap())
    }

    fn object(files: &MappedFiles, len: usize) -> bytes::Bytes {
        let content: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        files.map(file).unwrap()
    }

    #[tokio::test]
    async fn parts_of_files_and_other_bytes_arrive_in_order() {
        let files = MappedFiles::default();
        let object = object(&files, 3 << 20);
        let parts: [&[u8]; 7] = [
            b"head\r\n\r\n",
            &object[100_000..2_500_000],
            b"",
            &object[7..20],
            &object[1..1_000_000],
            b"tail",
            &object[..],
        ];
        let expected = parts.concat();
        let (mut server, mut client) = pair(&files).await;
        let reader = tokio::spawn(async move {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.map(|_| received)
        });
        write_all(&mut server, &parts).await.unwrap();
        assert!(server.sends_files, "the file system sends files");
        drop(server);
        assert!(reader.await.unwrap().unwrap() == expected);
    }

    #[tokio::test]
    async fn a_file_that_became_short_ends_the_connection() {
        let files = MappedFiles::default();
        let mut made = tempfile::NamedTempFile::new().unwrap();
        made.write_all(&[1; 1 << 20]).unwrap();
        let object = files.map(made.reopen().unwrap()).unwrap();
        made.as_file().set_len(0).unwrap();
        let (mut server, _client) = pair(&files).await;
        let ended = server.write(&object).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
