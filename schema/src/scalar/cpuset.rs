//! Sets of processors.

use super::{Form, Scalar, ScalarInfo};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// A set of processors such as `0-3,^2`; equal to another by its members.
#[derive(Debug, Clone)]
pub struct CpuSet {
    text: String,
    cpus: BTreeSet<u32>,
}

impl CpuSet {
    /// The members.
    pub fn cpus(&self) -> &BTreeSet<u32> {
        &self.cpus
    }

    /// The members in the kernel's list form: `0-1,3`.
    pub fn list(&self) -> String {
        let mut out = String::new();
        let mut cpus = self.cpus.iter().copied().peekable();
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|next| *next == last + 1) {
                last = next;
            }
            if !out.is_empty() {
                out.push(',');
            }
            out.push_str(&first.to_string());
            if last > first {
                out.push_str(&format!("-{last}"));
            }
        }
        out
    }
}

impl PartialEq for CpuSet {
    fn eq(&self, other: &Self) -> bool {
        self.cpus == other.cpus
    }
}

impl Scalar for CpuSet {
    const INFO: ScalarInfo =
        ScalarInfo::new("a set of processors such as 0-3,^2", Form::Joined(","))
            .matching("^[0-9,^ -]+$");

    fn parse(text: &str) -> Result<Self, String> {
        /// libvirt's own bound.
        const MOST: u32 = 16384;
        let mut cpus = BTreeSet::new();
        let pieces = text.trim();
        // A comma may stand behind the last piece.
        let pieces = pieces.strip_suffix(',').unwrap_or(pieces);
        for piece in pieces.split(',') {
            let piece = piece.trim();
            let (range, out) = piece
                .strip_prefix('^')
                .map_or((piece, false), |rest| (rest, true));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            if out && !range.bytes().all(|c| c.is_ascii_digit()) {
                return Err(format!(
                    "takes out `{range}`, and a processor is taken out by its number"
                ));
            }
            let first = u32::parse(first.trim())?;
            let last = u32::parse(last.trim())?;
            if last < first || last >= MOST {
                return Err(format!(
                    "has the range `{range}`, which is backwards or beyond {}",
                    MOST - 1
                ));
            }
            for cpu in first..=last {
                if out {
                    cpus.remove(&cpu);
                } else {
                    cpus.insert(cpu);
                }
            }
        }
        if cpus.is_empty() {
            return Err("leaves no processor".into());
        }
        Ok(Self {
            text: text.trim().to_owned(),
            cpus,
        })
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_processors_takes_out_what_is_excluded() {
        let set = CpuSet::parse("0-3,^2,8").unwrap();
        assert_eq!(set.list(), "0-1,3,8");
        let set = CpuSet::parse(" 0 - 3 , ^2,8, ").unwrap();
        assert_eq!(set.list(), "0-1,3,8");
        assert!(
            CpuSet::parse("3-1").is_err()
                && CpuSet::parse("1,^1").is_err()
                && CpuSet::parse("0-99999999").is_err()
                && CpuSet::parse("0-3,^1-2").is_err()
                && CpuSet::parse("0-3,^ 2").is_err()
                && CpuSet::parse("0,,1").is_err()
                && CpuSet::parse(",").is_err()
        );
    }
}
