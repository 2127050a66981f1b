//! Connections through a program in a container.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use testcontainers::bollard::container::LogOutput;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exec::{Exec, Frames, Input};

/// A connection through a program, whose standard streams are its two directions.
pub(super) struct Relay {
    output: Frames,
    input: Input,
    left: Bytes,
}

impl Relay {
    /// Takes over `exec`, of which the standard output is read up to `left`.
    pub(super) fn new(exec: Exec, left: Bytes) -> Self {
        Self { output: exec.output, input: exec.input, left }
    }
}

impl AsyncRead for Relay {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.left.has_remaining() {
                let n = this.left.len().min(into.remaining());
                into.put_slice(&this.left.split_to(n));
                return Poll::Ready(Ok(()));
            }
            match this.output.as_mut().poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Ok(LogOutput::StdOut { message }))) => this.left = message,
                Poll::Ready(Some(Ok(LogOutput::StdErr { .. }))) => {}
                Poll::Ready(Some(Ok(_))) => {
                    let broken = "the connection to the container daemon ended in the middle";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, broken)));
                }
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(io::Error::other(e))),
            }
        }
    }
}

impl AsyncWrite for Relay {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.input.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_shutdown(context)
    }
}
