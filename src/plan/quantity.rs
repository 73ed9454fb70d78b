//! Reads quantities of CPU and memory: ours (`3`, `0.5`, `5g`, `512m`) and Kubernetes' (`500m`, `1Gi`, `2G`, `1e9`).

use std::fmt;

use thiserror::Error;

/// Thousandths of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millicpu(pub u64);

/// Mebibytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mib(pub u64);

/// A text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is no quantity of {what}: write it as {example}")]
pub struct QuantityError {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// More than any machine has; keeps the arithmetic exact.
const LARGEST: f64 = 1e15;

impl Millicpu {
    /// Reads vCPUs: `3`, `0.5`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn read(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError::new(text, "vCPUs", "`2` or `0.5`");
        Self::from_cpus(decimal(text).ok_or_else(error)?).ok_or_else(error)
    }

    /// Reads a Kubernetes quantity of CPU: `500m`, `2`, `0.1`.
    ///
    /// # Errors
    /// When it is none.
    pub fn read_kubernetes(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError::new(text, "CPU", "`500m` or `2`");
        Self::from_cpus(kubernetes(text).ok_or_else(error)?).ok_or_else(error)
    }

    /// CPU units, rounded up.
    pub fn cpu_units(self) -> u64 {
        (self.0 * 1024).div_ceil(1000)
    }

    fn from_cpus(cpus: f64) -> Option<Self> {
        whole(cpus * 1000.0).map(Millicpu)
    }
}

impl Mib {
    /// Reads memory or disk in our words: `5g`, `512m`, `1.5g`; `GB`, `GiB` and `Gi` mean the same, a GiB.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn read(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError::new(text, "memory", "`4g` or `512m`");
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(error)?;
        let factor = match &lower[digits..] {
            "m" | "mb" | "mi" | "mib" => 1.0,
            "g" | "gb" | "gi" | "gib" => 1024.0,
            _ => return Err(error()),
        };
        let amount = decimal(lower[..digits].trim()).ok_or_else(error)?;
        whole(amount * factor).map(Mib).ok_or_else(error)
    }

    /// Reads a Kubernetes quantity of memory: `1Gi`, `500M`, `1e9`, plain bytes.
    ///
    /// # Errors
    /// When it is none.
    pub fn read_kubernetes(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError::new(text, "memory", "`1Gi` or `512Mi`");
        let bytes = kubernetes(text).ok_or_else(error)?;
        whole(bytes / 1_048_576.0).map(Mib).ok_or_else(error)
    }
}

impl fmt::Display for Millicpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} vCPU", self.0 as f64 / 1000.0)
    }
}

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1024 { write!(f, "{} GB", self.0 as f64 / 1024.0) } else { write!(f, "{} MB", self.0) }
    }
}

impl QuantityError {
    fn new(text: &str, what: &'static str, example: &'static str) -> Self {
        let text: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
        QuantityError { text, what, example }
    }
}

/// A Kubernetes quantity: a decimal with a suffix or an exponent.
fn kubernetes(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let amount = decimal(&text[..end])?;
    let suffix = &text[end..];
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            10f64.powi(exponent)
        }
    };
    Some(amount * factor)
}

/// Digits with at most one dot: no sign, no exponent, no `inf`.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// Rounds up to a whole number above zero; a hair above one is that one.
fn whole(amount: f64) -> Option<u64> {
    let rounded = (amount - 1e-6).ceil();
    (amount > 0.0 && rounded <= LARGEST).then_some(rounded.max(1.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_quantities() {
        for (text, mib) in [("5g", 5120), ("512m", 512), ("1.5G", 1536), ("2GiB", 2048), ("30 gb", 30720)] {
            assert_eq!(Mib::read(text), Ok(Mib(mib)), "{text}");
        }
        for (text, milli) in [("3", 3000), ("0.25", 250), ("1.0001", 1001)] {
            assert_eq!(Millicpu::read(text), Ok(Millicpu(milli)), "{text}");
        }
        for text in ["", "g", "-1g", "1e3g", "5x", "1.2.3g", "5", "0g", "infg", "NaNg", "99999999999999999999g"] {
            assert!(Mib::read(text).is_err(), "{text}");
        }
        for text in ["", "two", "-1", "1e3", "0", "inf", "2 cores", "500m"] {
            assert!(Millicpu::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_of_kubernetes() {
        for (text, mib) in [
            ("1Gi", 1024),
            ("512Mi", 512),
            ("1G", 954),
            ("1e9", 954),
            ("134217728", 128),
            ("134217728000m", 128),
            ("1", 1),
        ] {
            assert_eq!(Mib::read_kubernetes(text), Ok(Mib(mib)), "{text}");
        }
        for (text, milli) in [("500m", 500), ("2", 2000), ("0.1", 100), ("1500000u", 1500)] {
            assert_eq!(Millicpu::read_kubernetes(text), Ok(Millicpu(milli)), "{text}");
        }
        for text in ["1gi", "1GB", "m", "", "0", "1e99999"] {
            assert!(Mib::read_kubernetes(text).is_err(), "{text}");
        }
    }
}
