//! Variables and scripts: precedence, expansion, files, and the shell.
