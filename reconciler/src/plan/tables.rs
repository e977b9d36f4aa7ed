//! Our nftables tables: the operations that bring what is observed to what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::nft::{Chain, ChainName, IfName, MapElement, NftOp, TableName};
use crate::inventory::Table;

/// What one object, or all of them, want in a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub chains: BTreeMap<ChainName, Chain>,
    pub elements: BTreeSet<MapElement>,
}

impl Rules {
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.elements.is_empty()
    }

    /// Adds what another object wants.
    pub fn extend(&mut self, other: Rules) {
        self.chains.extend(other.chains);
        self.elements.extend(other.elements);
    }
}

/// The operations that make `want` true in a table and leave no element of `keys` there that `want` does not have. Nothing when it is so already. What else is
/// in the table is not touched.
pub(super) fn make_true(
    table: &TableName,
    observed: &Table,
    want: &Rules,
    keys: &BTreeSet<IfName>,
) -> Vec<NftOp> {
    let mut ops = Vec::new();
    for (name, chain) in &want.chains {
        let digest = observed.chains.get(name).and_then(Option::as_deref);
        if digest != Some(chain.digest().as_str()) {
            ops.push(NftOp::ReplaceChain {
                table: table.clone(),
                name: name.clone(),
                chain: chain.clone(),
            });
        }
    }
    ops.extend(elements_gone(table, observed, want, keys));
    ops.extend(
        want.elements
            .difference(&observed.elements)
            .map(|element| NftOp::SetElement {
                table: table.clone(),
                element: element.clone(),
            }),
    );
    ops
}

/// Deletions of the elements with these keys that are observed and not wanted.
fn elements_gone(
    table: &TableName,
    observed: &Table,
    want: &Rules,
    keys: &BTreeSet<IfName>,
) -> Vec<NftOp> {
    observed
        .elements
        .iter()
        .filter(|element| keys.contains(&element.key) && !want.elements.contains(element))
        .map(|element| NftOp::DeleteElement {
            table: table.clone(),
            element: element.clone(),
        })
        .collect()
}

/// Deletions of all elements and chains that are not kept.
pub(super) fn leftovers(
    table: &TableName,
    observed: &Table,
    chain_kept: &dyn Fn(&ChainName) -> bool,
    element_kept: &dyn Fn(&MapElement) -> bool,
) -> Vec<NftOp> {
    let elements = observed
        .elements
        .iter()
        .filter(|element| !element_kept(element))
        .map(|element| NftOp::DeleteElement {
            table: table.clone(),
            element: element.clone(),
        });
    let chains = observed
        .chains
        .keys()
        .filter(|name| !chain_kept(name))
        .map(|name| NftOp::DeleteChain {
            table: table.clone(),
            name: name.clone(),
        });
    elements.chain(chains).collect()
}
