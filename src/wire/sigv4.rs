//! AWS Signature Version 4: canonical form, verification, signing.
