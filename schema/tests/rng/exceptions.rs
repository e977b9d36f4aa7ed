//! Where the grammars allow what libvirt's parser refuses, or what has no meaning in a definition.

/// What is not read, and why.
pub struct Exception {
    /// The place; all that end so where it begins with `…`, all that begin so where it ends with it.
    pub place: &'static str,
    /// A part of the complaint; empty for any.
    pub what: &'static str,
    /// Why we do not read it.
    pub why: &'static str,
}

impl Exception {
    pub fn covers(&self, place: &str, what: &str) -> bool {
        let there = match (self.place.strip_prefix('…'), self.place.strip_suffix('…')) {
            (Some(end), _) => place.ends_with(end),
            (_, Some(begin)) => place.starts_with(begin),
            _ => place == self.place,
        };
        there && what.contains(self.what)
    }
}

const fn except(place: &'static str, what: &'static str, why: &'static str) -> Exception {
    Exception { place, what, why }
}

const DECIMAL: &str = "the grammar has one type for all of these numbers; those that are no addresses are read in decimal";
const NO_PORT: &str = "the grammar's -1 stands for any port, which only displays take";
const TOO_LOOSE: &str = "the grammar's expression fits more than addresses";

/// Every exception. One that is of no use any more fails the test.
pub const EXCEPTIONS: &[Exception] = &[
    except(
        "domain…",
        "leaves no processor",
        "a set that only excludes is empty, and refused",
    ),
    except(
        "…sched/@priority",
        "is not between",
        "priorities of real-time schedulers are 1 to 99, as documented",
    ),
    except("…/audio/@id", "`0x", DECIMAL),
    except("…/audio/@timerPeriod", "`0x", DECIMAL),
    except("domain/devices/audio/input…", "`0x", DECIMAL),
    except("domain/devices/audio/output…", "`0x", DECIMAL),
    except("…/sound/@streams", "`0x", DECIMAL),
    except("…/source/@namespace", "`0x", DECIMAL),
    except("…/iommu/driver/@aw_bits", "`0x", DECIMAL),
    except("…/tpm/backend/@debug", "`0x", DECIMAL),
    except(
        "…/controller/master/@startport",
        "is not a whole number",
        "it is one port, where the grammar allows a path of ports",
    ),
    except(
        "…/source/@mode",
        "`text`",
        "the words are those of all other character devices",
    ),
    except(
        "…/channel/target/@address",
        "`text`",
        "it is an address, where the grammar allows any text",
    ),
    except(
        "…/target/@port",
        "`text`",
        "it is a number, where the grammar allows any text",
    ),
    except(
        "…/privateData",
        "",
        "it is part of libvirt's own record of a running guest",
    ),
    except(
        "…/interface/source/@missing",
        "",
        "it is part of libvirt's own record of a running guest",
    ),
    except(
        "…/interface/source/@macTableManager",
        "",
        "it is part of libvirt's own record of a running guest",
    ),
    except(
        "domain/devices/hostdev/source/adapter…",
        "",
        "the adapter of a guest's device is told by its name; the rest is for pools",
    ),
    except(
        "…/hostdev/source/address/@unit",
        "is above",
        "the grammar's twenty digits are above 64 bits",
    ),
    except("…/@port", "`-1`", NO_PORT),
    except("…/portForward/range/@start", "`-1`", NO_PORT),
    except("…/portForward/range/@end", "`-1`", NO_PORT),
    except("…/portForward/range/@to", "`-1`", NO_PORT),
    except(
        "domain/devices/redirfilter",
        "once",
        "one set of rules is accepted, as documented",
    ),
    except(
        "…/seclabel/label",
        "once",
        "a label is one text, where the grammar repeats what is around it",
    ),
    except(
        "pool/source/name",
        "once",
        "a source has one name, where the grammar states it in two places",
    ),
    except(
        "…/smartcard/target",
        "",
        "a reader of cards has an address and no target",
    ),
    except(
        "domain/launchSecurity/handle",
        "",
        "the handle is the running session's, and no definition has it",
    ),
    except(
        "network/forward/driver/@name",
        "`xen`",
        "networks know kvm and vfio, as documented",
    ),
    except(
        "pool/source/auth/secret/@uuid",
        "`text`",
        "it is a uuid, where the grammar allows any text",
    ),
    except(
        "pool/source/format/product",
        "",
        "it is read beside the format, where the grammar of other pools has it",
    ),
    except(
        "pool/source/format/vendor",
        "",
        "it is read beside the format, where the grammar of other pools has it",
    ),
    except(
        "filter…",
        "is not a variable",
        "a variable's name follows the `$` at once",
    ),
    except("filter…", "is not an IPv4 address", TOO_LOOSE),
    except("filter…", "is not an IPv6 address", TOO_LOOSE),
    except("filter…", "has ones after zeros", TOO_LOOSE),
    except("filter…", "is not a mask", TOO_LOOSE),
    except(
        "filter…",
        "is not between 1536 and 65535",
        "numbers below 0x600 are lengths, as documented",
    ),
    except(
        "…/vlan/@encap-protocol",
        "is not between 60 and 65535",
        "numbers below 0x3c are refused by libvirt, as documented",
    ),
    except(
        "domainsnapshot/creationTime",
        "`text`",
        "it is a number of seconds, where the grammar allows any text",
    ),
];

/// What only comes of several things that a grammar allows each for itself.
pub const TOGETHER: &[Exception] = &[except(
    "…",
    "is above 16 EiB",
    "a size is a number of 64 bits, its unit counted in",
)];
