//! Decompression: every member of a stream is read, every check value compared, junk behind it refused.

use super::Compression;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};

/// The largest dictionary or window that is allocated; `xz -9` needs 65 MiB, `zstd --long=27` 128 MiB.
const WINDOW: u64 = 160 * 1024 * 1024;
const BUFFER: usize = 64 * 1024;

/// The plain bytes of `input`.
pub fn reader<'a, R: Read + Send + 'a>(compression: Compression, input: R) -> Box<dyn Read + Send + 'a> {
    let input = BufReader::with_capacity(BUFFER, input);
    match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, (WINDOW / 1024) as u32)),
        Compression::Zstd => Box::new(Frames::new(input)),
    }
}

/// All frames of a Zstandard stream: the library's own reader ends with the first and compares no check value.
struct Frames<R: BufRead> {
    input: R,
    decoder: FrameDecoder,
    state: State,
}

/// Where in the stream [`Frames`] is.
#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before everything: an empty file is no stream.
    Start,
    /// In a frame.
    Inside,
    /// Behind a frame: another may follow.
    Between,
}

impl<R: BufRead> Frames<R> {
    fn new(input: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW);
        Frames { input, decoder, state: State::Start }
    }

    /// Goes to the next frame with content; false at the end of the stream.
    fn open(&mut self) -> Result<bool> {
        loop {
            if self.input.fill_buf()?.is_empty() {
                return if self.state == State::Start {
                    Err(ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(false)
                };
            }
            match self.decoder.reset(&mut self.input) {
                Ok(()) => {
                    self.state = State::Inside;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if std::io::copy(&mut (&mut self.input).take(length), &mut std::io::sink())? != length {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    self.state = State::Between;
                }
                Err(error) => return Err(Error::other(error)),
            }
        }
    }

    fn check(&self) -> Result<()> {
        let (told, found) = (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
        if told.is_some() && told != found {
            return Err(Error::new(ErrorKind::InvalidData, "zstd: the content does not fit its check value"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.state != State::Inside && !self.open()? {
                return Ok(0);
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.decoder.is_finished() {
                self.check()?;
                self.state = State::Between;
                continue;
            }
            self.decoder
                .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(Error::other)?;
        }
    }
}

#[cfg(test)]
#[path = "compressed_tests.rs"]
mod tests;
