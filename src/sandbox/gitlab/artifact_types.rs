//! Which artifact types GitLab knows, their format and default file name (gitlab-protocol.md §7.1).
//!
//! The pairs are those of GitLab's `Ci::JobArtifact`: what its pages fetch is raw, what its backend reads is gzip.

/// Type, format and default name.
const TYPES: [(&str, &str, Option<&str>); 29] = [
    ("archive", "zip", None),
    ("metadata", "gzip", None),
    ("junit", "gzip", Some("junit.xml")),
    ("sast", "raw", Some("gl-sast-report.json")),
    ("secret_detection", "raw", Some("gl-secret-detection-report.json")),
    ("dependency_scanning", "raw", Some("gl-dependency-scanning-report.json")),
    ("container_scanning", "raw", Some("gl-container-scanning-report.json")),
    ("cluster_image_scanning", "raw", Some("gl-cluster-image-scanning-report.json")),
    ("dast", "raw", Some("gl-dast-report.json")),
    ("codequality", "raw", Some("gl-code-quality-report.json")),
    ("license_scanning", "raw", Some("gl-license-scanning-report.json")),
    ("performance", "raw", Some("performance.json")),
    ("browser_performance", "raw", Some("browser-performance.json")),
    ("load_performance", "raw", Some("load-performance.json")),
    ("metrics", "gzip", Some("metrics.txt")),
    ("metrics_referee", "gzip", None),
    ("network_referee", "gzip", None),
    ("lsif", "zip", Some("lsif.json")),
    ("dotenv", "gzip", Some(".env")),
    ("cobertura", "gzip", Some("cobertura-coverage.xml")),
    ("jacoco", "gzip", Some("jacoco-coverage.xml")),
    ("terraform", "raw", Some("tfplan.json")),
    ("accessibility", "raw", Some("gl-accessibility.json")),
    ("requirements", "raw", Some("requirements.json")),
    ("requirements_v2", "raw", Some("requirements_v2.json")),
    ("coverage_fuzzing", "raw", Some("gl-coverage-fuzzing.json")),
    ("api_fuzzing", "raw", Some("gl-api-fuzzing-report.json")),
    ("cyclonedx", "gzip", Some("gl-sbom.cdx.json")),
    ("annotations", "gzip", Some("gl-annotations.json")),
];

/// The format that files of `kind` must have.
pub(super) fn format_of(kind: &str) -> Option<&'static str> {
    TYPES.iter().find(|(name, _, _)| *name == kind).map(|(_, format, _)| *format)
}

/// The name that an artifact of `kind` is uploaded with.
pub(super) fn default_name(kind: &str) -> Option<&'static str> {
    TYPES.iter().find(|(name, _, _)| *name == kind).and_then(|(_, _, name)| *name)
}
