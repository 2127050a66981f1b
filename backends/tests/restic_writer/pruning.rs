//! What goes, what stays, and what a kill leaves behind.
