//! gzip, zstd and xz streams.
//!
//! *Verified*: every member, frame or block decodes to its end; checksums and sizes in trailers fit;
//! nothing but padding follows; a stream whose name claims a dump is not empty. What comes out is
//! recognised and checked in its turn.
//!
//! *Not verified*: header fields that no checksum covers (name, time); zstd frames that were written
//! without a checksum, and xz streams with `--check=none`, are decoded but a flipped bit can go unseen.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use super::Format;
use super::claim::{Claim, inner_name};
use super::context::{Context, reported};
use super::input::Input;
use super::inspect::{self, Item};

/// Memory for the dictionary of one xz decoder; `xz -9` needs 65 MiB.
const XZ_MEMORY_MAX: u64 = 256 << 20;

/// Window of one zstd decoder, as a power of two; larger ones need `--long` on both sides.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Checks the stream in `input` and what is inside it.
pub(super) fn check<'a>(
    context: &'a Context<'a>,
    item: &Item,
    format: Format,
    mut input: Input<'a>,
    depth: usize,
) -> io::Result<()> {
    if format == Format::Zstd && !zstd_has_checksum(input.peek(5)?) {
        context.leave_out("zstd frames without a checksum: flipped bits inside them can go unseen");
    }
    if format == Format::Xz && input.peek(8)?.get(7) == Some(&0) {
        context.leave_out("xz streams without a checksum: flipped bits inside them can go unseen");
    }
    let mut inside = decoder(context, format, input, &item.location)?;
    let inner = Item { location: item.location.clone(), name: inner_name(&item.name), lead: item.lead };
    let empty = inside.peek(1)?.is_empty();
    let claims_dump = Claim::of(item.named()).is_some_and(|claim| claim.dump);
    if empty {
        if claims_dump {
            context.damage(
                &format!("{}.empty", format.name()),
                &item.location,
                "a compressed dump",
                "a valid stream of nothing",
            );
        } else {
            context.note(format!("{} is a valid {} stream of nothing", item.location, format.name()));
        }
        return Ok(());
    }
    inspect::stream(context, &inner, inside, depth + 1)
}

/// A layer that decodes `input` to the very end, trailers included.
pub(super) fn decoder<'a>(
    context: &'a Context<'a>,
    format: Format,
    input: Input<'a>,
    location: &str,
) -> io::Result<Input<'a>> {
    let name = format.name();
    let trouble = |error: io::Error| {
        context.interrupt(format!("failed to start a {name} decoder for {location}: {error}"));
        reported()
    };
    Ok(match format {
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(trouble)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(trouble)?;
            Input::decoder(context, decoder, name, location)
        }
        Format::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, CONCATENATED)
                .map_err(|error| trouble(error.into()))?;
            Input::decoder(context, XzDecoder::new_stream(input, stream), name, location)
        }
        _ => {
            let members =
                Members { context, location: location.to_owned(), state: State::Between(input), members: 0 };
            Input::decoder(context, members, name, location)
        }
    })
}

/// Whether a decoder gave up because of the bounds that we set, which says nothing about the stream.
pub(super) fn is_memory_limit(error: &io::Error) -> bool {
    let xz = error.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
    matches!(xz, Some(liblzma::stream::Error::MemLimit | liblzma::stream::Error::Mem))
        || error.to_string().contains("too much memory")
}

fn zstd_has_checksum(head: &[u8]) -> bool {
    // A skippable frame in front hides the descriptor of the first real frame; pzstd writes checksums.
    !head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || head.get(4).is_some_and(|descriptor| descriptor & 4 != 0)
}

/// All members of a gzip file. flate2's own multi-member decoder calls padding and garbage behind the
/// last member corrupt, while gzip itself accepts the first and warns of the second.
struct Members<'a> {
    context: &'a Context<'a>,
    location: String,
    state: State<'a>,
    members: u64,
}

enum State<'a> {
    Between(Input<'a>),
    Inside(GzDecoder<Input<'a>>),
    Done,
}

impl Members<'_> {
    fn behind_the_last(&self, rest: &mut Input<'_>) -> io::Result<()> {
        let at = rest.offset();
        let mut padding = true;
        loop {
            let bytes = rest.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            padding &= bytes.iter().all(|byte| *byte == 0);
            let n = bytes.len();
            rest.consume(n);
        }
        if !padding {
            self.context.anomaly(
                "gzip.trailing",
                &self.location,
                "nothing behind the last gzip member",
                format!("{} bytes of something else from byte {at} on", rest.offset() - at),
            );
        }
        Ok(())
    }
}

impl Read for Members<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Ok(0),
                State::Between(mut input) => {
                    let head = input.peek(2)?;
                    if head.is_empty() {
                        return Ok(0);
                    }
                    if self.members > 0 && head != [0x1f, 0x8b] {
                        self.behind_the_last(&mut input)?;
                        return Ok(0);
                    }
                    self.members += 1;
                    self.state = State::Inside(GzDecoder::new(input));
                }
                State::Inside(mut decoder) => {
                    let n = decoder.read(into)?;
                    if n > 0 || into.is_empty() {
                        self.state = State::Inside(decoder);
                        return Ok(n);
                    }
                    // A long run of empty members makes no output that would be metered.
                    self.context.proceed()?;
                    self.state = State::Between(decoder.into_inner());
                }
            }
        }
    }
}
