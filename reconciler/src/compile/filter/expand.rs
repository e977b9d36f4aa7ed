//! References followed, variables given their values: from an interface's filter to a flat list of rule instances.
//!
//! In: the filters by name, one reference and its parameters. Out: every rule that is reached, in the order of the documents, with the values
//! of each instance. Loops, unknown filters, missing variables and lists that multiply beyond measure end here.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::error::{FilterError, Problem};
use super::ir::{Access, Entry, Filter, Parameters, Reference, Rule, Value, Variable};
use super::matching::Chosen;

/// Most rules and references that one interface's filter may lead to.
pub const REACHED_MAX: usize = 10_000;

/// Most instances that one rule may have.
pub const INSTANCES_MAX: usize = 4_096;

/// A rule where it was reached.
#[derive(Debug, Clone)]
pub struct Placed<'a> {
    /// The filter that holds it.
    pub filter: &'a Filter,
    /// Its place among that filter's entries.
    pub entry: usize,
    /// The rule.
    pub rule: &'a Rule,
    /// The variables in force there.
    pub values: Rc<Parameters>,
}

impl Placed<'_> {
    /// An error at this rule.
    pub fn error(&self, problem: Problem) -> FilterError {
        FilterError::new(&self.filter.name, Some(self.entry), problem)
    }
}

/// Every rule that `reference` leads to. `given` are the interface's own values.
pub fn reach<'a>(
    filters: &'a BTreeMap<String, Filter>,
    reference: &Reference,
    given: Parameters,
) -> Result<Vec<Placed<'a>>, FilterError> {
    let mut walk = Walk {
        filters,
        path: Vec::new(),
        reached: 0,
        out: Vec::new(),
    };
    let at = |problem| FilterError::new(&reference.filter, None, problem);
    let filter = filters
        .get(&reference.filter)
        .ok_or_else(|| at(Problem::UnknownReference(reference.filter.clone())))?;
    walk.filter(filter, Rc::new(given))?;
    Ok(walk.out)
}

struct Walk<'a> {
    filters: &'a BTreeMap<String, Filter>,
    path: Vec<&'a str>,
    reached: usize,
    out: Vec<Placed<'a>>,
}

impl<'a> Walk<'a> {
    fn filter(&mut self, filter: &'a Filter, values: Rc<Parameters>) -> Result<(), FilterError> {
        self.path.push(&filter.name);
        for (index, entry) in filter.entries.iter().enumerate() {
            let at = |problem| FilterError::new(&filter.name, Some(index), problem);
            self.reached += 1;
            if self.reached > REACHED_MAX {
                return Err(at(Problem::TooMany {
                    what: "rules and references",
                    limit: REACHED_MAX,
                }));
            }
            match entry {
                Entry::Rule(rule) => self.out.push(Placed {
                    filter,
                    entry: index,
                    rule,
                    values: Rc::clone(&values),
                }),
                Entry::Reference(reference) => {
                    let next = self.follow(reference).map_err(at)?;
                    let inner = merged(&reference.parameters, &values);
                    self.filter(next, inner)?;
                }
            }
        }
        self.path.pop();
        Ok(())
    }

    fn follow(&self, reference: &Reference) -> Result<&'a Filter, Problem> {
        let next = self
            .filters
            .get(&reference.filter)
            .ok_or_else(|| Problem::UnknownReference(reference.filter.clone()))?;
        if self.path.contains(&next.name.as_str()) {
            let mut path: Vec<String> = self.path.iter().map(|name| (*name).to_owned()).collect();
            path.push(next.name.clone());
            return Err(Problem::Loop(path));
        }
        Ok(next)
    }
}

/// The values within a reference: its own, and over them those of where it stands.
fn merged(own: &Parameters, outer: &Rc<Parameters>) -> Rc<Parameters> {
    if own.keys().all(|name| outer.contains_key(name)) {
        return Rc::clone(outer);
    }
    let mut values = own.clone();
    values.extend(
        outer
            .iter()
            .map(|(name, list)| (name.clone(), list.clone())),
    );
    Rc::new(values)
}

/// The variables of a rule.
pub fn variables(rule: &Rule) -> BTreeSet<&Variable> {
    rule.matches
        .iter()
        .flat_map(|node| node.attributes.values())
        .filter_map(|value| match value {
            Value::Variable(variable) => Some(variable),
            Value::Text(_) => None,
        })
        .collect()
}

/// The values of each instance of a rule: one instance a combination, in the order of the lists, the highest iterator turning slowest.
/// Combinations that come out equal are given once.
pub fn instances(placed: &Placed) -> Result<Vec<Chosen>, Problem> {
    let mut fixed = Chosen::new();
    let mut walked: BTreeMap<u16, Vec<(&Variable, &[String])>> = BTreeMap::new();
    for variable in variables(placed.rule) {
        let list = placed
            .values
            .get(&variable.name)
            .filter(|list| !list.is_empty())
            .ok_or_else(|| Problem::Unset(variable.name.clone()))?;
        match variable.access {
            Access::Index(index) => {
                let value = list.get(index).ok_or_else(|| Problem::Index {
                    name: variable.name.clone(),
                    index,
                    len: list.len(),
                })?;
                fixed.insert(variable.clone(), value.clone());
            }
            Access::Each(iterator) => {
                walked.entry(iterator).or_default().push((variable, list));
            }
        }
    }
    let mut rows = vec![fixed];
    for (iterator, variables) in walked {
        let length = even_length(iterator, &variables)?;
        if rows.len().saturating_mul(length) > INSTANCES_MAX {
            return Err(Problem::TooMany {
                what: "instances of one rule",
                limit: INSTANCES_MAX,
            });
        }
        rows = (0..length)
            .flat_map(|place| rows.iter().map(move |row| (place, row.clone())))
            .map(|(place, mut row)| {
                for (variable, list) in &variables {
                    if let Some(value) = list.get(place) {
                        row.insert((*variable).clone(), value.clone());
                    }
                }
                row
            })
            .collect();
    }
    let mut seen = BTreeSet::new();
    rows.retain(|row| seen.insert(row.clone()));
    Ok(rows)
}

fn even_length(iterator: u16, variables: &[(&Variable, &[String])]) -> Result<usize, Problem> {
    let length = variables.first().map_or(0, |(_, list)| list.len());
    if variables.iter().all(|(_, list)| list.len() == length) {
        return Ok(length);
    }
    let names: Vec<String> = variables
        .iter()
        .map(|(variable, list)| format!("{} {}", variable.name, list.len()))
        .collect();
    Err(Problem::Uneven {
        iterator,
        names: names.join(", "),
    })
}
