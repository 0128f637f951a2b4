//! Puts a rendered text where a template wants it: a new file under a name of its own, then a rename; a link that
//! the task has put there is replaced, one on the way refuses.

use bivouac_artifact::deposit;
use bivouac_artifact::place::{Owner, Place, Roots, make_directories, open_directories, open_root};
use rustix::fd::AsFd;
use std::ffi::CString;
use std::io::Write;

/// Writes `text` to a path as the task names it.
///
/// # Errors
/// Why not, in a sentence.
pub fn deliver(roots: &Roots, path: &str, text: &str, mode: u32, owner: Owner) -> Result<(), String> {
    let place = Place::resolve(path).map_err(|error| format!("template destination {error}"))?;
    let (name, parents) =
        place.names.split_last().ok_or_else(|| format!("template destination {path:?} is no file"))?;
    let root_path = roots.path(place.root);
    let root = open_root(root_path).map_err(|error| error.to_string())?;
    let directory =
        make_directories(root.as_fd(), root_path, parents, Owner::ROOT).map_err(|error| error.to_string())?;
    let c_name = CString::new(name.as_str()).map_err(|_| format!("{path:?} holds a NUL byte"))?;
    let shown = root_path.join(place.names.join("/"));
    deposit::replace(directory.as_fd(), &c_name, &shown, mode, owner, &mut |file| {
        file.write_all(text.as_bytes())
    })
    .map_err(|error| error.to_string())
}

/// Removes what a writer that was killed has left beside a path as the task names it. For whoever takes the task over:
/// nobody writes there then.
///
/// # Errors
/// Why not, in a sentence.
pub fn clear(roots: &Roots, path: &str) -> Result<(), String> {
    let place = Place::resolve(path).map_err(|error| error.to_string())?;
    let Some((_, parents)) = place.names.split_last() else { return Ok(()) };
    let root_path = roots.path(place.root);
    let root = open_root(root_path).map_err(|error| error.to_string())?;
    let shown = root_path.join(parents.join("/"));
    match open_directories(root.as_fd(), root_path, parents).map_err(|error| error.to_string())? {
        Some(directory) => deposit::sweep(directory.as_fd(), &shown).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}
