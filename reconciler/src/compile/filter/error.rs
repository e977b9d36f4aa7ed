//! Why a filter cannot be compiled for a guest's interface.

/// Which filter, which entry of it, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nwfilter {filter}{}: {problem}", entry.map(|n| format!(", entry {}", n + 1)).unwrap_or_default())]
pub struct FilterError {
    /// The filter that holds what is wrong.
    pub filter: String,
    /// The rule or reference within it, counted from 0 over both; `None` for the filter itself.
    pub entry: Option<usize>,
    /// What is wrong.
    #[source]
    pub problem: Box<Problem>,
}

impl FilterError {
    /// An error in `filter`, at one of its entries or as a whole.
    pub(super) fn new(filter: &str, entry: Option<usize>, problem: Problem) -> FilterError {
        FilterError {
            filter: filter.to_owned(),
            entry,
            problem: Box::new(problem),
        }
    }
}

/// What is wrong with a filter, a rule, or the values it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A reference to nothing.
    #[error("refers to filter {0:?}, which does not exist")]
    UnknownReference(String),
    /// Filters that lead back to themselves.
    #[error("refers back to itself: {}", .0.join(" -> "))]
    Loop(Vec<String>),
    /// A chain that no frame would ever enter.
    #[error("chain {0:?} does not begin with root, mac, vlan, stp, arp, rarp, ipv4 or ipv6")]
    UnknownChain(String),
    /// A variable without a value.
    #[error("variable ${0} has no value")]
    Unset(String),
    /// A value that its attribute cannot take.
    #[error("{attribute}={value:?}{} is not {wanted}", variable.as_ref().map(|v| format!(" (from ${v})")).unwrap_or_default())]
    WrongType {
        /// The attribute.
        attribute: String,
        /// The value.
        value: String,
        /// The variable that gave it.
        variable: Option<String>,
        /// What would be accepted.
        wanted: &'static str,
    },
    /// An element past the end of a list.
    #[error("${name}[{index}] is past the end: the variable has {len} values, counted from 0")]
    Index {
        /// The variable.
        name: String,
        /// The element asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// Lists of different lengths walked side by side.
    #[error(
        "the variables walked by iterator @{iterator} have different numbers of values: {names}"
    )]
    Uneven {
        /// The iterator.
        iterator: u16,
        /// The variables with their numbers of values.
        names: String,
    },
    /// Lists or references that multiply beyond measure.
    #[error("gives more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// What cannot be expressed, and why.
    #[error("{what} cannot be done: {why}")]
    Unsupported {
        /// The element or attribute.
        what: String,
        /// The reason, and what would do instead.
        why: &'static str,
    },
    /// What this host's kernel lacks.
    #[error("{what} needs {feature}, which this host's kernel does not have")]
    MissingFeature {
        /// The element or attribute.
        what: String,
        /// The kernel's feature.
        feature: &'static str,
    },
}
