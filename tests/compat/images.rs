//! Images, sizes, and what Fargate cannot do.
