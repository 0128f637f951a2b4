//! Texts of the kernel to values. Only what is asked for is judged: a key that a later kernel adds must not
//! break a reader of today.

use crate::error::excerpt;

/// What is wrong with a text; the caller knows the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) text: String,
    pub(crate) expected: &'static str,
}

impl Malformed {
    fn new(text: &str, expected: &'static str) -> Malformed {
        Malformed { text: excerpt(text), expected }
    }

    pub(crate) fn at(self, path: std::path::PathBuf) -> crate::Error {
        crate::Error::Malformed { path, text: self.text, expected: self.expected }
    }
}

/// One number and a newline.
pub(crate) fn number(text: &str) -> Result<u64, Malformed> {
    digits(text.strip_suffix('\n').unwrap_or(text))
}

/// A limit: one number and a newline, or none at all.
pub(crate) fn number_or_max(text: &str) -> Result<Option<u64>, Malformed> {
    if text.trim_end() == "max" { Ok(None) } else { number(text).map(Some) }
}

/// The values of `keys` in lines of `key value`; the first line with a key counts. A key that is not there is
/// `None`.
pub(crate) fn keyed<const N: usize>(text: &str, keys: [&str; N]) -> Result<[Option<u64>; N], Malformed> {
    let mut values = [None; N];
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ') else { continue };
        for (known, slot) in keys.iter().zip(&mut values) {
            if *known == key && slot.is_none() {
                *slot = Some(digits(value).map_err(|_| Malformed::new(line, "a key and a number"))?);
            }
        }
    }
    Ok(values)
}

/// The value of one key that must be there.
pub(crate) fn required(text: &str, key: &'static str) -> Result<u64, Malformed> {
    let [value] = keyed(text, [key])?;
    value.ok_or_else(|| Malformed::new(text, key))
}

/// One process number per line. 0 stands for a process that this pid namespace cannot name.
pub(crate) fn processes(text: &str) -> Result<Vec<i32>, Malformed> {
    let process = |line: &str| match digits(line).ok().and_then(|number| i32::try_from(number).ok()) {
        Some(0) => Err(Malformed::new(line, "a process of this pid namespace")),
        Some(pid) => Ok(pid),
        None => Err(Malformed::new(line, "a process number")),
    };
    text.lines().map(process).collect()
}

/// Bytes read and written, summed over devices, from v2's `io.stat`: `8:0 rbytes=1 wbytes=2 ...`.
pub(crate) fn io_stat(text: &str) -> Result<(u64, u64), Malformed> {
    let (mut read, mut written) = (0u64, 0u64);
    for line in text.lines() {
        for word in line.split(' ') {
            let sum = match word.split_once('=') {
                Some(("rbytes", value)) => (&mut read, value),
                Some(("wbytes", value)) => (&mut written, value),
                _ => continue,
            };
            let value =
                digits(sum.1).map_err(|_| Malformed::new(line, "rbytes= and wbytes= with numbers"))?;
            *sum.0 = sum.0.saturating_add(value);
        }
    }
    Ok((read, written))
}

/// The same from v1's `blkio.throttle.io_service_bytes`: `8:0 Read 1`, one line per device and direction.
pub(crate) fn blkio(text: &str) -> Result<(u64, u64), Malformed> {
    let (mut read, mut written) = (0u64, 0u64);
    for line in text.lines() {
        let mut words = line.split(' ').skip(1);
        let sum = match words.next() {
            Some("Read") => &mut read,
            Some("Write") => &mut written,
            _ => continue,
        };
        let value = words.next().and_then(|word| digits(word).ok());
        *sum =
            sum.saturating_add(value.ok_or_else(|| Malformed::new(line, "a device, a direction, a number"))?);
    }
    Ok((read, written))
}

/// Plain digits: the parser of the standard library would take a sign as well.
fn digits(text: &str) -> Result<u64, Malformed> {
    let malformed = || Malformed::new(text, "a number");
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    text.parse().map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        assert_eq!(number("0\n"), Ok(0));
        assert_eq!(number("18446744073709551615\n"), Ok(u64::MAX));
        for bad in ["", "\n", "-1\n", "+1\n", "max\n", "1 2\n", "1\n\n", "18446744073709551616", " 1", "1k"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_are_whole_words_and_unknown_ones_do_not_matter() {
        let text = "usage_usec 5\nuser_usec 3\nfuture thing of any shape\nlonely\nuser 7\nuser 8\n";
        assert_eq!(keyed(text, ["user", "usage_usec", "absent"]), Ok([Some(7), Some(5), None]));
        assert_eq!(keyed("user -1\n", ["user"]).unwrap_err().text, "user -1");
        assert!(keyed("oom_kill max\n", ["oom_kill"]).is_err());
        assert!(keyed("oom_kill 1 2\n", ["oom_kill"]).is_err());
        assert_eq!(required("oom 0\noom_kill 3\n", "oom_kill"), Ok(3));
        assert_eq!(required("oom 0\n", "oom_kill").unwrap_err().expected, "oom_kill");
    }

    #[test]
    fn process_lists() {
        assert_eq!(processes("1\n4194304\n"), Ok(vec![1, 4_194_304]));
        assert_eq!(processes(""), Ok(vec![]));
        for bad in ["0\n", "-3\n", "1\n\n2\n", "99999999999\n", "a\n", "1 2\n"] {
            assert!(processes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn devices_are_summed() {
        let v2 =
            "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n254:0 \n7:0 rbytes=1 wbytes=2 rios=0\n";
        assert_eq!(io_stat(v2), Ok((11, 22)));
        assert!(io_stat("8:0 rbytes=-1\n").is_err());
        let v1 = "8:0 Read 5\n8:0 Write 6\n8:0 Sync 1\n8:0 Total 11\n7:0 Read 1\n7:0 Write 1\nTotal 13\n";
        assert_eq!(blkio(v1), Ok((6, 7)));
        assert_eq!(blkio("Total 0\n"), Ok((0, 0)));
        assert!(blkio("8:0 Read\n").is_err());
        assert_eq!(io_stat("1:1 rbytes=18446744073709551615\n1:2 rbytes=5\n"), Ok((u64::MAX, 0)));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,100}|([a-z_]{0,6}[ =:]?-?[0-9]{0,22}\n?){0,8}") {
            let _ = number(&text);
            let _ = keyed(&text, ["a", "user"]);
            let _ = required(&text, "a");
            let _ = processes(&text);
            let _ = io_stat(&text);
            let _ = blkio(&text);
        }

        #[test]
        fn what_was_written_is_read(values in proptest::collection::vec(1..=i32::MAX, 0..50)) {
            let text: String = values.iter().map(|value| format!("{value}\n")).collect();
            prop_assert_eq!(processes(&text).unwrap(), values);
        }
    }
}
