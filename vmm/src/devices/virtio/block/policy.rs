//! What follows when the host fails a disk's request.
//!
//! Pure: in come what was tried and the error; out goes a [`Verdict`]. Requests that are wrong in themselves are no business of it: the guest is always told of those.
//! Source: libvirt's domain format, "Hard drives, floppy disks, CDROMs", `error_policy` and `rerror_policy`.

use std::io;

use crate::config::{ErrorPolicy, ReadErrorPolicy};

/// What an image was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
}

impl Access {
    /// For messages: a disk could not do this.
    pub fn words(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes => "write zeroes",
        }
    }
}

/// What becomes of a request that the host failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The guest is told of the error.
    Report,
    /// It waits until the guest, which is paused, is resumed.
    Wait,
    /// It counts as done.
    Ignore,
}

/// A disk's policies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policies {
    pub reads: ReadErrorPolicy,
    pub others: ErrorPolicy,
}

impl Policies {
    pub fn judge(self, access: Access, error: &io::Error) -> Verdict {
        if access == Access::Read {
            return match self.reads {
                ReadErrorPolicy::Report => Verdict::Report,
                ReadErrorPolicy::Stop => Verdict::Wait,
                ReadErrorPolicy::Ignore => Verdict::Ignore,
            };
        }
        match self.others {
            ErrorPolicy::Enospace if error.kind() == io::ErrorKind::StorageFull => Verdict::Wait,
            ErrorPolicy::Enospace | ErrorPolicy::Report => Verdict::Report,
            ErrorPolicy::Stop => Verdict::Wait,
            ErrorPolicy::Ignore => Verdict::Ignore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: [Access; 4] = [
        Access::Write,
        Access::Flush,
        Access::Discard,
        Access::WriteZeroes,
    ];

    #[test]
    fn the_error_policy_decides_of_all_but_reads() {
        let error = io::Error::from_raw_os_error;
        for (others, full, bad) in [
            (ErrorPolicy::Report, Verdict::Report, Verdict::Report),
            (ErrorPolicy::Stop, Verdict::Wait, Verdict::Wait),
            (ErrorPolicy::Ignore, Verdict::Ignore, Verdict::Ignore),
            (ErrorPolicy::Enospace, Verdict::Wait, Verdict::Report),
        ] {
            let policies = Policies {
                reads: ReadErrorPolicy::Report,
                others,
            };
            for access in CHANGES {
                let judged = [libc::ENOSPC, libc::EIO, libc::EDQUOT]
                    .map(|number| policies.judge(access, &error(number)));
                assert_eq!(judged, [full, bad, bad], "{others:?} {access:?}");
            }
            let read = policies.judge(Access::Read, &error(libc::ENOSPC));
            assert_eq!(read, Verdict::Report, "{others:?}");
        }
    }

    #[test]
    fn the_read_error_policy_decides_of_reads_alone() {
        let error = || io::Error::from_raw_os_error(libc::EIO);
        for (reads, wanted) in [
            (ReadErrorPolicy::Report, Verdict::Report),
            (ReadErrorPolicy::Stop, Verdict::Wait),
            (ReadErrorPolicy::Ignore, Verdict::Ignore),
        ] {
            let others = ErrorPolicy::Report;
            let policies = Policies { reads, others };
            assert_eq!(policies.judge(Access::Read, &error()), wanted);
            for access in CHANGES {
                assert_eq!(policies.judge(access, &error()), Verdict::Report);
            }
        }
    }
}
