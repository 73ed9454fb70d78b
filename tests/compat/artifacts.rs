//! Artifacts: what is uploaded, how, and what comes down again.
