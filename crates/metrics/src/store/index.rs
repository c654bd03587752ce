//! The inverted index of one shard: label → value → the series that have it.
//!
//! Texts are held once, and go with the last series that has them, so that labels which come and go leave nothing behind.

use super::matcher::Condition;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A series' place in its shard.
pub(crate) type Slot = u32;
/// A label with its value, by number.
pub(crate) type PairId = u32;

/// Bytes of a pair beside its text: the pair, its place in the map, its list.
const PAIR_BYTES: usize = 112;

#[derive(Debug, Default)]
struct Name {
    text: Arc<str>,
    values: HashMap<Arc<str>, PairId>,
}

#[derive(Debug)]
struct Pair {
    name: Arc<str>,
    value: Arc<str>,
    /// In order.
    series: Vec<Slot>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    names: BTreeMap<Arc<str>, Name>,
    pairs: Vec<Option<Pair>>,
    free: Vec<PairId>,
    texts_bytes: usize,
}

impl Index {
    /// Adds a series; gives its labels' numbers, in the order given.
    pub(crate) fn add<'a>(&mut self, slot: Slot, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Box<[PairId]> {
        labels
            .map(|(name, value)| {
                let pair = self.pair(name, value);
                let series = &mut self.pairs[pair as usize].as_mut().expect("just found or made").series;
                if let Err(at) = series.binary_search(&slot) {
                    series.insert(at, slot);
                }
                pair
            })
            .collect()
    }

    fn pair(&mut self, name: &str, value: &str) -> PairId {
        if !self.names.contains_key(name) {
            let text: Arc<str> = name.into();
            self.names.insert(text.clone(), Name { text, values: HashMap::new() });
        }
        let known = self.names.get_mut(name).expect("just found or made");
        if let Some(pair) = known.values.get(value) {
            return *pair;
        }
        let value: Arc<str> = value.into();
        let pair = Pair { name: known.text.clone(), value: value.clone(), series: Vec::with_capacity(1) };
        self.texts_bytes += value.len() + PAIR_BYTES;
        let id = match self.free.pop() {
            Some(id) => {
                self.pairs[id as usize] = Some(pair);
                id
            }
            None => {
                self.pairs.push(Some(pair));
                self.pairs.len() as PairId - 1
            }
        };
        known.values.insert(value, id);
        id
    }

    /// Removes series, given in order with the pairs that they have.
    pub(crate) fn remove(&mut self, slots: &[Slot], pairs: impl Iterator<Item = PairId>) {
        let mut touched: Vec<PairId> = pairs.collect();
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            let Some(pair) = self.pairs[id as usize].as_mut() else { continue };
            pair.series.retain(|slot| slots.binary_search(slot).is_err());
            if !pair.series.is_empty() {
                pair.series.shrink_to(pair.series.len() * 2);
                continue;
            }
            let pair = self.pairs[id as usize].take().expect("just looked at");
            self.free.push(id);
            self.texts_bytes -= pair.value.len() + PAIR_BYTES;
            let name = self.names.get_mut(&pair.name).expect("a pair's name is known");
            name.values.remove(&pair.value);
            if name.values.is_empty() {
                self.names.remove(&pair.name);
            } else if name.values.capacity() > 4 * name.values.len() {
                name.values.shrink_to_fit();
            }
        }
    }

    /// The label and the value of a number.
    pub(crate) fn label(&self, pair: PairId) -> (&Arc<str>, &Arc<str>) {
        let pair = self.pairs[pair as usize].as_ref().expect("a series' pairs live");
        (&pair.name, &pair.value)
    }

    /// Series for which all conditions hold, in order. `all` gives every series, for conditions that only exclude.
    pub(crate) fn select(&self, conditions: &[Condition], all: impl Fn() -> Vec<Slot>) -> Vec<Slot> {
        let mut found: Option<Vec<Slot>> = None;
        for condition in conditions.iter().filter(|condition| !condition.absent) {
            let here = self.having(condition);
            let both = match found {
                None => here,
                Some(found) => intersection(&found, &here),
            };
            if both.is_empty() {
                return both;
            }
            found = Some(both);
        }
        let mut found = found.unwrap_or_else(all);
        for condition in conditions.iter().filter(|condition| condition.absent) {
            let out = self.failing(condition);
            found.retain(|slot| out.binary_search(slot).is_err());
        }
        found
    }

    /// Series that have the label with a value for which the condition holds.
    fn having(&self, condition: &Condition) -> Vec<Slot> {
        let Some(name) = self.names.get(condition.label.as_str()) else { return Vec::new() };
        let pairs: Vec<PairId> = match condition.values() {
            Some(values) => values.iter().filter_map(|value| name.values.get(value.as_str()).copied()).collect(),
            None => name.values.iter().filter(|(value, _)| condition.holds(value)).map(|(_, id)| *id).collect(),
        };
        self.union(&pairs)
    }

    /// Series that have the label with a value for which it does not hold.
    fn failing(&self, condition: &Condition) -> Vec<Slot> {
        let Some(name) = self.names.get(condition.label.as_str()) else { return Vec::new() };
        let pairs: Vec<PairId> =
            name.values.iter().filter(|(value, _)| !condition.holds(value)).map(|(_, id)| *id).collect();
        self.union(&pairs)
    }

    fn union(&self, pairs: &[PairId]) -> Vec<Slot> {
        let lists = pairs.iter().filter_map(|id| self.pairs[*id as usize].as_ref());
        let mut all: Vec<Slot> = lists.flat_map(|pair| pair.series.iter().copied()).collect();
        if pairs.len() > 1 {
            all.sort_unstable();
            all.dedup();
        }
        all
    }

    /// Bytes in use, about.
    pub(crate) fn bytes(&self) -> usize {
        let lists = self.pairs.iter().flatten().map(|pair| pair.series.capacity() * 4).sum::<usize>();
        self.texts_bytes + lists + self.pairs.capacity() * size_of::<Option<Pair>>()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.texts_bytes == 0
    }
}

fn intersection(left: &[Slot], right: &[Slot]) -> Vec<Slot> {
    let (few, many) = if left.len() < right.len() { (left, right) } else { (right, left) };
    few.iter().copied().filter(|slot| many.binary_search(slot).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::matcher::{Matcher, Op};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    type Labels = Vec<(&'static str, &'static str)>;

    fn labels() -> impl Strategy<Value = Labels> {
        let value = || prop::sample::select(vec!["", "x", "y", "xy", "z"]);
        (value(), value(), value()).prop_map(|(a, b, c)| {
            let all = [("a", a), ("b", b), ("c", c), ("__name__", "up")];
            all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
        })
    }

    fn matcher() -> impl Strategy<Value = Matcher> {
        let label = prop::sample::select(vec!["a", "b", "c", "d"]);
        let op = prop::sample::select(vec![Op::Equal, Op::NotEqual, Op::Regex, Op::NotRegex]);
        let value = prop::sample::select(vec!["", "x", "y", "x|y", "x.*", ".*", ".+", "y?"]);
        (label, op, value).prop_map(|(label, op, value)| Matcher::new(label, op, value))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn selects_what_a_look_at_each_series_selects(
            series in prop::collection::vec(labels(), 1..40),
            gone in prop::collection::btree_set(0..40_u32, 0..20),
            matchers in prop::collection::vec(matcher(), 0..4),
        ) {
            let mut index = Index::default();
            let pairs: Vec<_> =
                series.iter().enumerate().map(|(slot, labels)| index.add(slot as u32, labels.iter().copied())).collect();
            let gone: BTreeSet<u32> = gone.into_iter().filter(|slot| (*slot as usize) < series.len()).collect();
            let slots: Vec<u32> = gone.iter().copied().collect();
            index.remove(&slots, slots.iter().flat_map(|slot| pairs[*slot as usize].iter().copied()));
            let left = |slot: &u32| !gone.contains(slot);
            let all: Vec<u32> = (0..series.len() as u32).filter(left).collect();
            let conditions: Vec<_> = matchers.iter().map(|m| Condition::compile(m).expect("compiles")).collect();
            let holds = |slot: &u32| {
                let value = |label: &str| series[*slot as usize].iter().find(|(name, _)| *name == label).map_or("", |l| l.1);
                conditions.iter().all(|condition| condition.holds(value(&condition.label)))
            };
            let naive: Vec<u32> = all.iter().copied().filter(holds).collect();
            prop_assert_eq!(index.select(&conditions, || all.clone()), naive);
            index.remove(&all, all.iter().flat_map(|slot| pairs[*slot as usize].iter().copied()));
            prop_assert!(index.is_empty(), "texts go with their series");
        }
    }
}
