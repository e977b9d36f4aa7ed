//! Boot Loader Specification entries of type 1 (UAPI.1): one small file a kernel, in `loader/entries`.
//!
//! In comes a volume; out come its entries in the order in which they are to be booted. A file that names no kernel, or one for another architecture, is no entry.
//! Entries whose tries are used up come last; nothing is counted down, since nothing is written to the disk.

use std::cmp::Ordering;

use super::choose::Volume;
use super::version::compare;

/// Entries of one directory, at most.
const MOST_ENTRIES: usize = 256;
/// Bytes of one entry, at most.
const MOST_BYTES: u64 = 64 << 10;
/// Where entries are, on a boot partition and on a root file system without one.
pub(super) const DIRECTORIES: [&str; 2] = ["/loader/entries", "/boot/loader/entries"];

/// One entry. Paths are in the file system that the entry is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The file's name without `.conf` and without its count of tries.
    pub id: String,
    pub title: String,
    version: String,
    machine_id: String,
    sort_key: String,
    pub linux: String,
    /// As written: words may be variables.
    pub initrds: String,
    /// As written: words may be variables.
    pub options: String,
    /// It was tried as often as it may be, and never said that it works.
    exhausted: bool,
}

impl Entry {
    fn parse(file: &str, text: &str) -> Option<Self> {
        let (id, tries) = tries(file.strip_suffix(".conf")?);
        let mut entry = Self {
            id: id.to_owned(),
            exhausted: tries == Some(0),
            ..Self::default()
        };
        for line in text.lines() {
            let line = line.trim();
            let Some((key, value)) = line.split_once([' ', '\t']) else {
                continue;
            };
            let value = value.trim();
            match key {
                "title" => value.clone_into(&mut entry.title),
                "version" => value.clone_into(&mut entry.version),
                "machine-id" => value.clone_into(&mut entry.machine_id),
                "sort-key" => value.clone_into(&mut entry.sort_key),
                "linux" => value.clone_into(&mut entry.linux),
                "initrd" => join(&mut entry.initrds, value),
                "options" => join(&mut entry.options, value),
                "architecture" if !is_ours(value) => return None,
                _ => {}
            }
        }
        (!entry.linux.is_empty()).then_some(entry)
    }

    /// The order in which boot loaders list entries: the first is booted.
    pub fn rank(&self, other: &Self) -> Ordering {
        let by_key = || match (self.sort_key.is_empty(), other.sort_key.is_empty()) {
            (false, false) => self
                .sort_key
                .cmp(&other.sort_key)
                .then_with(|| self.machine_id.cmp(&other.machine_id))
                .then_with(|| compare(&other.version, &self.version)),
            (mine, others) => mine.cmp(&others),
        };
        self.exhausted
            .cmp(&other.exhausted)
            .then_with(by_key)
            .then_with(|| compare(&other.id, &self.id))
    }
}

fn join(to: &mut String, more: &str) {
    if !to.is_empty() {
        to.push(' ');
    }
    to.push_str(more);
}

fn is_ours(architecture: &str) -> bool {
    ["x64", "x86_64", "x86-64", "amd64"]
        .iter()
        .any(|name| architecture.eq_ignore_ascii_case(name))
}

/// A name without its count of tries, `+LEFT` or `+LEFT-DONE`, and how many are left.
fn tries(name: &str) -> (&str, Option<u32>) {
    let counted = name.rsplit_once('+').and_then(|(id, count)| {
        let (left, done) = count.split_once('-').unwrap_or((count, "0"));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u32>().ok()).flatten()
        };
        number(done)?;
        Some((id, number(left)?))
    });
    match counted {
        Some((id, left)) => (id, Some(left)),
        None => (name, None),
    }
}

/// A volume's entries, the one to boot first; and those files that could not be read, told in words.
pub(super) fn entries(volume: &Volume, directory: &str) -> (Vec<Entry>, Vec<String>) {
    let mut found = Vec::new();
    let mut unread = Vec::new();
    let Ok(mut names) = volume.files.list(directory) else {
        return (found, unread);
    };
    names.retain(|name| name.ends_with(".conf"));
    names.sort_unstable();
    for name in names.into_iter().take(MOST_ENTRIES) {
        let path = format!("{directory}/{name}");
        match volume.files.read(&path, MOST_BYTES) {
            Ok(bytes) => found.extend(Entry::parse(&name, &String::from_utf8_lossy(&bytes))),
            Err(error) => unread.push(format!("{path} {error}")),
        }
    }
    found.sort_by(Entry::rank);
    (found, unread)
}

/// A text with `$name` and `${name}` replaced by what `value` says of them, which is nothing for what it does not know.
pub(super) fn substitute(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        let braced = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'));
        let belongs = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, after) = braced.unwrap_or_else(|| {
            let end = after.find(|c| !belongs(c)).unwrap_or(after.len());
            after.split_at(end)
        });
        if name.is_empty() {
            done.push('$');
        } else if done.len() <= MOST_BYTES as usize {
            done.push_str(&value(name));
        }
        rest = after;
    }
    done.push_str(rest);
    done
}

/// As GRUB's `blscfg` orders them: by their files' names alone, the newest first.
pub(super) fn by_name(entries: &mut [Entry]) {
    entries.sort_by(|a, b| compare(&b.id, &a.id));
}

/// The entry that `loader.conf` makes the default, or the first.
pub(super) fn default<'a>(entries: &'a [Entry], loader: &str) -> Option<&'a Entry> {
    let mut pattern = loader.lines().filter_map(|line| {
        let (key, value) = line.trim().split_once([' ', '\t'])?;
        (key == "default").then(|| value.trim())
    });
    let pattern = pattern.next_back();
    let named = pattern.and_then(|pattern| {
        entries.iter().find(|entry| {
            !entry.exhausted
                && (matches(pattern, &entry.id) || matches(pattern, &format!("{}.conf", entry.id)))
        })
    });
    named.or_else(|| entries.first())
}

/// Whether a name is what a pattern with `*` and `?` describes, in any case of letters.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and how much of the name it took: only the last one needs to be tried again.
    let mut star = None;
    while let Some(&byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == byte => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(file: &str, text: &str) -> Entry {
        Entry::parse(file, &format!("linux /vmlinuz\n{text}")).unwrap()
    }

    fn order(entries: &[(&str, &str)]) -> Vec<String> {
        let mut entries: Vec<_> = entries.iter().map(|(f, t)| entry(f, t)).collect();
        entries.sort_by(Entry::rank);
        entries.into_iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn the_newest_version_of_a_sort_key_is_first_and_entries_without_a_key_come_later() {
        let found = order(&[
            ("z.conf", ""),
            ("a-6.9.conf", "sort-key a\nversion 6.9"),
            ("a-6.10.conf", "sort-key a\nversion 6.10"),
            ("b.conf", "sort-key b\nversion 9"),
        ]);
        assert_eq!(found, ["a-6.10", "a-6.9", "b", "z"]);
    }

    #[test]
    fn an_entry_whose_tries_are_used_up_comes_last() {
        let found = order(&[
            ("new-2+0-3.conf", ""),
            ("old-1.conf", ""),
            ("older-0+2.conf", ""),
        ]);
        assert_eq!(found, ["older-0", "old-1", "new-2"]);
        assert_eq!(tries("linux-6.1+deb13"), ("linux-6.1+deb13", None));
        assert_eq!(tries("linux+3-1"), ("linux", Some(3)));
    }

    #[test]
    fn the_loaders_default_is_a_pattern() {
        let entries = [
            entry("a-2.conf", ""),
            entry("a-1.conf", ""),
            entry("bad+0.conf", ""),
        ];
        let id = |loader: &str| default(&entries, loader).unwrap().id.clone();
        assert_eq!(id("timeout 3\ndefault a-1*\n"), "a-1");
        assert_eq!(id("default A-1.conf"), "a-1");
        assert_eq!(id("default ?-1.*\n"), "a-1");
        for none_of_them in ["", "default bad", "default b-*", "default @saved"] {
            assert_eq!(id(none_of_them), "a-2", "{none_of_them}");
        }
    }

    #[test]
    fn a_file_without_a_kernel_or_for_another_machine_is_no_entry() {
        assert_eq!(Entry::parse("a.conf", "efi /EFI/shell.efi"), None);
        assert_eq!(Entry::parse("a.conf", "linux /v\narchitecture aa64"), None);
        let found = entry(
            "a.conf",
            "architecture x64\n# title no\noptions a\ninitrd /i\ninitrd /j\noptions b=c d",
        );
        assert_eq!(
            (found.options.as_str(), found.initrds.as_str()),
            ("a b=c d", "/i /j")
        );
        assert_eq!(found.title, "");
    }
}
