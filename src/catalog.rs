//! Look-ups over the packed fact tables.
