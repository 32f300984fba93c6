//! What is pushed: a real documentation site, copied so that it can be changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// Debian's `rust-doc`: more than 30,000 files.
pub const RUST_DOC: &str = "/usr/share/doc/rust-doc/html";

/// A folder of files with its size.
#[derive(Debug)]
pub struct Tree {
    pub dir: PathBuf,
    pub files: u64,
    pub bytes: u64,
}

/// Copies `source` to `dir`, links followed, until `files_max` files are there.
pub fn copy(source: &Path, dir: &Path, files_max: u64) -> Result<Tree> {
    let mut tree = Tree { dir: dir.to_owned(), files: 0, bytes: 0 };
    copy_into(&mut tree, source, dir, files_max)
        .with_context(|| format!("could not copy {}: run tests/install", source.display()))?;
    ensure!(tree.files > 0, "{} holds no files", source.display());
    Ok(tree)
}

fn copy_into(tree: &mut Tree, from: &Path, to: &Path, files_max: u64) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut entries = fs::read_dir(from)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if tree.files == files_max {
            break;
        }
        let target = to.join(entry.file_name());
        if fs::metadata(entry.path())?.is_dir() {
            copy_into(tree, &entry.path(), &target, files_max)?;
        } else {
            tree.bytes += fs::copy(entry.path(), &target)?;
            tree.files += 1;
        }
    }
    Ok(())
}

/// Makes `files` small files that compress like text, all different.
pub fn small_files(dir: &Path, files: u64) -> Result<Tree> {
    let mut tree = Tree { dir: dir.to_owned(), files: 0, bytes: 0 };
    for index in 0..files {
        let folder = dir.join(format!("{:03}", index / 500));
        if index % 500 == 0 {
            fs::create_dir_all(&folder)?;
        }
        let line = format!("<p>Page {index} of many, number {}.</p>\n", index * 7919 % 104_729);
        let text = line.repeat(4 + (index % 40) as usize);
        fs::write(folder.join(format!("{index}.html")), &text)?;
        tree.files += 1;
        tree.bytes += text.len() as u64;
    }
    Ok(tree)
}
