//! Canaries: small signed, numbered, timestamped records that the pipeline plants in each target.
