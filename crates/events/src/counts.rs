//! Numbers by category.

use std::iter::Sum;
use std::ops::{Add, Index, Sub};

use tapline_oapi::{Category, CategorySet};
use tapline_ring::{CLASSES, ClassCounts};

/// A number of events for each category.
///
/// As totals they only grow, so the difference of two is what happened in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counts([u64; Category::COUNT]);

impl Counts {
    /// All categories together.
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Only those categories; the others become 0.
    #[must_use]
    pub fn within(&self, categories: CategorySet) -> Self {
        let mut within = Self::default();
        for category in categories.iter() {
            within.0[category.index()] = self[category];
        }
        within
    }

    /// The class of an event in the ring is the index of its category.
    pub(crate) fn of_classes(classes: ClassCounts) -> Self {
        const { assert!(Category::COUNT <= CLASSES) };
        Self(std::array::from_fn(|category| classes[category]))
    }

    /// The categories with a number other than 0, in the order of [`Category::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Category, u64)> + '_ {
        Category::ALL
            .into_iter()
            .map(|category| (category, self[category]))
            .filter(|(_, n)| *n > 0)
    }
}

/// One number for each category, in the order of [`Category::index`].
impl From<[u64; Category::COUNT]> for Counts {
    fn from(counts: [u64; Category::COUNT]) -> Self {
        Self(counts)
    }
}

impl Index<Category> for Counts {
    type Output = u64;

    fn index(&self, category: Category) -> &u64 {
        &self.0[category.index()]
    }
}

/// Both together.
impl Add for Counts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (n, other) in self.0.iter_mut().zip(other.0) {
            *n += other;
        }
        self
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// By how much later totals exceed earlier ones.
impl Sub for Counts {
    type Output = Self;

    fn sub(mut self, earlier: Self) -> Self {
        for (n, earlier) in self.0.iter_mut().zip(earlier.0) {
            *n -= earlier;
        }
        self
    }
}
