//! How are bytes kept in a bucket that speaks S3?
