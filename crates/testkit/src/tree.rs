//! Folders to push: made from a seed, described, compared.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nigh_proto::Digest;

/// A folder of web pages that is the same for the same numbers.
#[derive(Clone, Copy, Debug)]
pub struct SampleSite {
    pub seed: u64,
    /// How many files it holds; at least one.
    pub files: usize,
    /// How many bytes a page has on average.
    pub page_bytes: usize,
}

/// What is in a folder: every file's path, and the digest of its bytes.
pub type Contents = BTreeMap<String, Digest>;

/// A small generator of numbers that look random (xorshift64*); the same seed gives the same ones.
#[derive(Clone, Copy, Debug)]
pub struct Numbers(u64);

impl Numbers {
    pub const fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % if bound == 0 { 1 } else { bound }
    }
}

impl SampleSite {
    /// `files` pages of a few kilobytes.
    pub const fn pages(files: usize) -> Self {
        Self { seed: 1, files, page_bytes: 4096 }
    }

    /// Writes the site into `dir`, which is made when it is not there.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let mut numbers = Numbers::new(self.seed);
        for index in 0..self.files.max(1) {
            let (path, bytes) = self.file(index, &mut numbers);
            write(dir, &path, &bytes)?;
        }
        Ok(())
    }

    /// The front page, then mostly pages, with every tenth file a style, script or picture.
    fn file(&self, index: usize, numbers: &mut Numbers) -> (String, Vec<u8>) {
        let size = self.page_bytes / 2 + numbers.below(self.page_bytes.max(2));
        let folder = index / 100;
        match index {
            0 => ("index.html".to_owned(), page("Front page", size, numbers)),
            _ if index % 30 == 10 => {
                (format!("assets/style.{:08x}.css", numbers.next() as u32), text(size, numbers))
            }
            _ if index % 30 == 20 => {
                (format!("assets/app.{:08x}.js", numbers.next() as u32), text(size, numbers))
            }
            _ if index % 30 == 29 => (format!("img/{index}.png"), noise(size, numbers)),
            _ => (
                format!("docs/{folder}/page-{index}.html"),
                page(&format!("Page {index}"), size, numbers),
            ),
        }
    }
}

fn page(title: &str, size: usize, numbers: &mut Numbers) -> Vec<u8> {
    let mut page = format!("<!doctype html><title>{title}</title><h1>{title}</h1><p>").into_bytes();
    page.extend(text(size, numbers));
    page
}

/// Words that compress about as well as prose.
fn text(size: usize, numbers: &mut Numbers) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "edge", "near", "visitor", "answer", "the", "of", "release", "from", "disk", "before",
        "it", "asks", "and", "a", "healthy", "name", "server", "sends", "every", "folder", "once",
        "is", "there", "late",
    ];
    let mut text = Vec::with_capacity(size + 16);
    while text.len() < size {
        text.extend_from_slice(WORDS[numbers.below(WORDS.len())].as_bytes());
        match numbers.below(12) {
            0 => text.extend_from_slice(b".\n"),
            1 => text.extend_from_slice(format!(" {} ", numbers.below(10_000)).as_bytes()),
            _ => text.push(b' '),
        }
    }
    text
}

/// Bytes that do not compress.
fn noise(size: usize, numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&numbers.next().to_le_bytes());
    }
    bytes
}

/// Writes one file of a folder, and the folders above it.
pub fn write(dir: &Path, path: &str, bytes: &[u8]) -> Result<()> {
    let file = dir.join(path);
    let parent = file.parent().context("a file lies in a folder")?;
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&file, bytes))
        .with_context(|| format!("could not write {}", file.display()))
}

/// Writes a folder of texts.
pub fn write_all(dir: &Path, files: &[(&str, &str)]) -> Result<()> {
    files.iter().try_for_each(|(path, text)| write(dir, path, text.as_bytes()))
}

/// Every file of `dir`, hidden ones too.
pub fn contents(dir: &Path) -> Result<Contents> {
    let mut contents = Contents::new();
    let mut folders: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
                let name = path.strip_prefix(dir)?.to_string_lossy().into_owned();
                contents.insert(name, Digest::of(&bytes));
            }
        }
    }
    Ok(contents)
}

/// How two folders differ, a line for each path; empty when they are the same.
pub fn differences(left: &Contents, right: &Contents) -> Vec<String> {
    let gone = left.keys().filter(|path| !right.contains_key(*path));
    let gone = gone.map(|path| format!("{path}: only in the first"));
    let others = right.iter().filter_map(|(path, digest)| match left.get(path) {
        None => Some(format!("{path}: only in the second")),
        Some(other) if other != digest => Some(format!("{path}: other bytes")),
        Some(_) => None,
    });
    gone.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_site() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for dir in &dirs {
            SampleSite::pages(120).write(dir.path()).unwrap();
        }
        let [first, second] = dirs.map(|dir| contents(dir.path()).unwrap());
        assert_eq!(first.len(), 120);
        assert_eq!(differences(&first, &second), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_told() {
        let of = |files: &[(&str, &str)]| -> Contents {
            files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), Digest::of(text.as_bytes())))
                .collect()
        };
        let differences = differences(
            &of(&[("a", "1"), ("b", "1"), ("c", "1")]),
            &of(&[("a", "1"), ("b", "2"), ("d", "1")]),
        );
        let expected = ["c: only in the first", "b: other bytes", "d: only in the second"];
        assert_eq!(differences, expected);
    }
}
