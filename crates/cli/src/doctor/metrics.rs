//! The numbers of `GET /metrics`.

/// Samples of the Prometheus text format.
pub(super) struct Metrics(Vec<Sample>);

struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Lines that are no samples are left out.
    pub(super) fn read(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        Self(text.lines().filter_map(sample).collect())
    }

    /// The sum of the samples that have these labels; 0 if there is none.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let found = self.0.iter().filter(|it| it.name == name && it.has(labels));
        found.map(|it| it.value).sum::<f64>() as u64
    }

    /// Whether there is a sample with these labels.
    pub(super) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.0.iter().any(|it| it.name == name && it.has(labels))
    }

    /// The value of a label of the first sample of this name.
    pub(super) fn label(&self, name: &str, label: &str) -> Option<&str> {
        let sample = self.0.iter().find(|it| it.name == name)?;
        let (_, value) = sample.labels.iter().find(|(key, _)| key == label)?;
        Some(value)
    }

    /// The values of a label whose samples are not 0.
    pub(super) fn labels_of_some(&self, name: &str, label: &str) -> Vec<&str> {
        let of_name = self.0.iter().filter(|it| it.name == name && 0.0 < it.value);
        of_name
            .filter_map(|it| it.labels.iter().find(|(key, _)| key == label))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

impl Sample {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| {
            let mut own = self.labels.iter();
            own.any(|(its_name, its_value)| its_name == name && its_value == value)
        })
    }
}

/// `name{label="value",…} 3`. The values that Tapline writes have no escapes and no commas.
fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    if line.starts_with('#') {
        return None;
    }
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    let labels = labels.trim_end_matches('}').split(',');
    Some(Sample {
        name: name.to_owned(),
        labels: labels
            .filter_map(|label| label.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
            .collect(),
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let metrics = Metrics::read(
            b"# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\nb 5.5\n\nbroken\n",
        );
        assert_eq!(metrics.sum("a", &[]), 7);
        assert_eq!(metrics.sum("a", &[("y", "3")]), 4);
        assert_eq!(metrics.sum("b", &[]), 5);
        assert_eq!(metrics.sum("c", &[]), 0);
        assert!(metrics.has("a", &[("x", "1")]) && !metrics.has("a", &[("x", "2")]));
        assert_eq!(metrics.label("a", "y"), Some("2"));
        assert_eq!(metrics.labels_of_some("a", "y"), ["2", "3"]);
    }
}
