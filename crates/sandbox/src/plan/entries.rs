//! What the entries of the chroot environment become: links, overlays and binds, each after what it lies in.

use super::{Fill, Refusal, What, check_target};
use crate::model::{Access, Entry, Propagation, Route, Sandbox, Show, Trust};
use crate::path::{HostPath, PathError, TaskPath};
use crate::survey::{Seen, Shape, Survey};
use bivouac_sys::features::{KernelFeatures, OverlayLayers};
use std::collections::BTreeMap;

/// Parents before children, since what is attached later lies on top.
pub(super) fn fills(
    sandbox: &Sandbox,
    survey: &Survey,
    features: &KernelFeatures,
) -> Result<Vec<Fill>, Refusal> {
    let links = Links::of(sandbox, survey);
    let mut sorted = Vec::new();
    for entry in &sandbox.root.entries {
        if entry.target.components().next().is_none() {
            return Err(Refusal::EntryAtTop(entry.source.clone()));
        }
        sorted.push((links.place_of(&entry.target)?, entry));
    }
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    if let Some(twice) = sorted.windows(2).find_map(|pair| match pair {
        [left, right] if left.0 == right.0 => Some(&right.0),
        _ => None,
    }) {
        return Err(Refusal::Twice(twice.clone()));
    }
    let mut fill = Vec::new();
    for (place, entry) in sorted {
        let target = check_target(&place)?;
        match survey.entries.get(&entry.source).unwrap_or(&Seen::Missing) {
            Seen::Missing | Seen::Other => {}
            Seen::Link(content) => fill.push(Fill { target, what: What::Link(content.clone()) }),
            Seen::File => fill.push(Fill { target, what: read_only_bind(&entry.source, Shape::File) }),
            Seen::Directory(below) => {
                directory(entry, &target, below, sandbox.root.access, features, &mut fill)?;
            }
        }
    }
    Ok(fill)
}

fn directory(
    entry: &Entry,
    target: &TaskPath,
    below: &[(HostPath, Shape)],
    access: Access,
    features: &KernelFeatures,
    fill: &mut Vec<Fill>,
) -> Result<(), Refusal> {
    let Show::Overlay { above } = &entry.show else {
        // A recursive bind carries the mounts below it along.
        fill.push(Fill { target: target.clone(), what: read_only_bind(&entry.source, Shape::Directory) });
        return Ok(());
    };
    if features.overlay == OverlayLayers::Unavailable {
        return Err(Refusal::NoOverlay(target.clone()));
    }
    let lowers = above.iter().chain([&entry.source]).cloned().collect();
    let overlay = What::Overlay { access, lowers, name: upper_name(&entry.target) };
    fill.push(Fill { target: target.clone(), what: overlay });
    for (mount, shape) in below {
        let relative = mount.as_path().strip_prefix(entry.source.as_path()).unwrap_or(mount.as_path());
        fill.push(Fill { target: target.join(relative)?, what: read_only_bind(mount, *shape) });
    }
    Ok(())
}

/// The name of a target's directory in the private one; its upper layer is `upper` in it.
///
/// `/usr/share` -> `usr+share`: one directory name per target, and `+` keeps the map one to one.
pub fn upper_name(target: &TaskPath) -> String {
    let mut name = String::new();
    for part in target.components() {
        if !name.is_empty() {
            name.push('+');
        }
        for byte in part {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => name.push(char::from(*byte)),
                other => name.push_str(&format!("%{other:02x}")),
            }
        }
    }
    name
}

fn read_only_bind(source: &HostPath, shape: Shape) -> What {
    What::Bind {
        source: source.clone(),
        route: Route::Anywhere,
        shape,
        access: Access::ReadOnly,
        trust: Trust::Stripped,
        propagation: Propagation::Private,
    }
}

/// The entries that are links, by their place: most hosts have `/bin` as a link to `usr/bin`, and what is asked for
/// below it must come after what it leads to.
struct Links<'a>(BTreeMap<&'a TaskPath, &'a [u8]>);

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

impl<'a> Links<'a> {
    fn of(sandbox: &'a Sandbox, survey: &'a Survey) -> Links<'a> {
        let link = |entry: &'a Entry| match survey.entries.get(&entry.source)? {
            Seen::Link(content) => Some((&entry.target, content.as_slice())),
            _ => None,
        };
        Links(sandbox.root.entries.iter().filter_map(link).collect())
    }

    /// Where something at `target` really lies. The last name is not followed: a link may be an entry itself.
    fn place_of(&self, target: &TaskPath) -> Result<TaskPath, PathError> {
        let mut place = target.clone();
        for _ in 0..MOST_LINKS {
            let above = place.as_path().ancestors().skip(1).find_map(|above| {
                let above = TaskPath::new(above).ok()?;
                Some((self.0.get(&above).copied()?, above))
            });
            let Some((content, link)) = above else { break };
            let below = place.as_path().strip_prefix(link.as_path()).unwrap_or(place.as_path());
            place = leads_to(&link, content)?.join(below)?;
        }
        Ok(place)
    }
}

/// Where a link leads, within the root: nothing is above its top.
fn leads_to(link: &TaskPath, content: &[u8]) -> Result<TaskPath, PathError> {
    use std::os::unix::ffi::OsStrExt;
    let mut parts: Vec<&[u8]> = Vec::new();
    if content.first() != Some(&b'/') {
        parts.extend(link.components());
        parts.pop();
    }
    for part in content.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    let mut path = b"/".to_vec();
    path.extend(parts.join(&b'/'));
    TaskPath::new(std::ffi::OsStr::from_bytes(&path))
}
