//! The files of a log: the one that is written, and those that were rotated away from beside it, compressed or not.

use super::chain::{ChainHead, Links};
use flate2::read::MultiGzDecoder;
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

/// Opens a file of a log. One that was compressed by gzip is read as what it was before.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    Ok(match file.fill_buf()?.starts_with(GZIP) {
        true => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        false => Box::new(file),
    })
}

/// How far the files at hand tell what happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The last entry that was read.
    pub last: Option<u64>,
    /// Entries that are in no file at hand, or only in a part of one that cannot be believed.
    pub missing: Vec<RangeInclusive<u64>>,
    /// What was wrong with which file.
    pub unreadable: Vec<String>,
}

/// Reads the entries from `start` on, in their order and each once, from the file of a log and those beside it whose names begin with
/// its name. Entries shortly before `start` may come too.
pub fn read_from(audit_file: &Path, start: u64, mut each: impl FnMut(u64, &[u8])) -> io::Result<Coverage> {
    let mut coverage = Coverage::default();
    let mut parts = Vec::new();
    for path in beside(audit_file)? {
        match first_entry(&path) {
            Ok(Some(first)) => parts.push((first, path)),
            Ok(None) => {}
            Err(error) => coverage.unreadable.push(format!("{}: {error}", path.display())),
        }
    }
    parts.sort();
    // One file before that in which `start` is: what was begun in it may have ended in the next.
    let needed = parts.partition_point(|(first, _)| *first <= start).saturating_sub(2);
    let mut head: Option<ChainHead> = None;
    let mut next = start;
    for (_, path) in parts.drain(needed..) {
        let read = read_lines(&path, |line| {
            let links = Links::read(line, 0).map_err(io::Error::other)?;
            match head {
                // A copy of what was read, such as the file that is just being compressed.
                Some(head) if links.seq < head.next => return Ok(()),
                Some(head) if links.seq == head.next && links.prev != hex::encode(head.hash) => {
                    let number = links.seq;
                    let broken = format!("entry {number} does not continue the entry before it");
                    return Err(io::Error::other(broken));
                }
                _ => {}
            }
            if links.seq > next {
                coverage.missing.push(next..=links.seq - 1);
            }
            next = next.max(links.seq + 1);
            head = Some(ChainHead::of_last_line(line).map_err(io::Error::other)?);
            coverage.last = Some(links.seq);
            each(links.seq, line);
            Ok(())
        });
        if let Err(error) = read {
            coverage.unreadable.push(format!("{}: {error}", path.display()));
        }
    }
    Ok(coverage)
}

/// The file of a log, if it is there, and what begins with its name.
fn beside(audit_file: &Path) -> io::Result<Vec<PathBuf>> {
    let name = audit_file.file_name().unwrap_or_default().to_string_lossy();
    let directory = match audit_file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut files = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries?,
    };
    for found in entries {
        let found = found?;
        if found.file_name().to_string_lossy().starts_with(&*name) && found.file_type()?.is_file() {
            files.push(found.path());
        }
    }
    Ok(files)
}

/// The number of a file's first entry; `None` if it has no whole line.
fn first_entry(path: &Path) -> io::Result<Option<u64>> {
    let mut line = Vec::new();
    let mut file = open(path)?;
    match whole_line(&mut file, &mut line)? {
        Some(line) => Ok(Some(Links::read(line, 1).map_err(io::Error::other)?.seq)),
        None => Ok(None),
    }
}

fn read_lines(path: &Path, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut file = open(path)?;
    let mut line = Vec::new();
    while let Some(line) = whole_line(&mut file, &mut line)? {
        each(line)?;
    }
    Ok(())
}

/// The next line without its end; `None` where what is left is none.
pub(super) fn whole_line<'a>(file: &mut impl BufRead, line: &'a mut Vec<u8>) -> io::Result<Option<&'a [u8]>> {
    line.clear();
    file.take(LONGEST_LINE).read_until(b'\n', line)?;
    if line.len() as u64 == LONGEST_LINE {
        return Err(io::Error::other(format!("a line has {LONGEST_LINE} bytes or more")));
    }
    Ok(line.strip_suffix(b"\n"))
}

const GZIP: &[u8] = &[0x1f, 0x8b];
/// Far more than any entry has; a file that only claims to be a log does not fill the memory.
const LONGEST_LINE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{AuditLog, Entry};
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn compress(path: &Path) {
        let bytes = fs::read(path).expect("a file of the log");
        let name = format!("{}.gz", path.display());
        let mut encoder = GzEncoder::new(File::create(&name).expect("a file"), Compression::fast());
        encoder.write_all(&bytes).expect("compressed");
        encoder.finish().expect("compressed");
    }

    /// Three files of four entries each: `log-1`, `log-2` and `log`.
    fn log(directory: &Path) -> PathBuf {
        let path = directory.join("log");
        let note = directory.join("note");
        for number in 1..=3 {
            let log = AuditLog::open(&path, &note).expect("the log");
            // The first entry of a file that continues another is the log's own.
            for _ in 0..if number == 1 { 4 } else { 3 } {
                log.append(&Entry::gateway("test", "OK")).expect("an entry");
            }
            log.close();
            if number < 3 {
                fs::rename(&path, directory.join(format!("log-{number}"))).expect("rotated");
            }
        }
        path
    }

    fn read(path: &Path, start: u64) -> (Vec<u64>, Coverage) {
        let mut seen = Vec::new();
        let coverage = read_from(path, start, |seq, _| seen.push(seq)).expect("the files");
        (seen, coverage)
    }

    #[test]
    fn each_entry_comes_once_and_in_order_from_files_compressed_or_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = log(directory.path());
        let all: Vec<u64> = (1..=12).collect();
        let whole = Coverage {
            last: Some(12),
            ..Coverage::default()
        };
        assert_eq!(read(&path, 1), (all.clone(), whole));
        // Compressed, and the file that was compressed is still there.
        compress(&directory.path().join("log-1"));
        assert_eq!(read(&path, 1).0, all);
        fs::remove_file(directory.path().join("log-1")).expect("removed");
        compress(&directory.path().join("log-2"));
        fs::remove_file(directory.path().join("log-2")).expect("removed");
        let (seen, coverage) = read(&path, 3);
        assert_eq!((seen, coverage.missing), (all, vec![]));
        // Of old files no more than one is read.
        assert_eq!(read(&path, 9).0, (5..=12).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_in_no_file_or_in_a_damaged_one_is_missing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = log(directory.path());
        let second = directory.path().join("log-2");
        let good = fs::read_to_string(&second).expect("a file of the log");
        fs::write(&second, good.replace("\"seq\":7", "\"seq\": 7")).expect("changed");
        let (seen, coverage) = read(&path, 2);
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]);
        assert_eq!(coverage.missing, [8..=8]);
        assert!(
            coverage.unreadable[0].contains("entry 8 does not continue"),
            "{coverage:?}"
        );
        fs::remove_file(&second).expect("removed");
        assert_eq!(read(&path, 2).1.missing, [5..=8]);
        assert_eq!(read(&path, 7).1.missing, [7..=8]);
        assert_eq!(read(&path, 9).1.missing, []);
        assert_eq!(read(&directory.path().join("another"), 1).1, Coverage::default());
    }
}
