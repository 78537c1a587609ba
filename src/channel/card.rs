//! The card: one hold as text.
