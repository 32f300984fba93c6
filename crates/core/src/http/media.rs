//! What media type does a file have, by its name, and is it worth compressing?
//!
//! The table is nigh's own: the same file has the same type on every edge, whatever the machine's
//! own tables say. Text is declared as UTF-8, the only encoding that the web agrees on.

/// The type of a file whose extension is not known: browsers download it and never guess.
pub const UNKNOWN: &str = "application/octet-stream";

/// Extensions in lower case, sorted, and their types (IANA's registry where it has one).
const BY_EXTENSION: &[(&str, &str)] = &[
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("adoc", "text/plain; charset=utf-8"),
    ("ai", "application/postscript"),
    ("apk", "application/vnd.android.package-archive"),
    ("apng", "image/apng"),
    ("appcache", "text/cache-manifest; charset=utf-8"),
    ("arrow", "application/vnd.apache.arrow.file"),
    ("asc", "application/pgp-signature"),
    ("atom", "application/atom+xml"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bash", "text/plain; charset=utf-8"),
    ("bat", "text/plain; charset=utf-8"),
    ("bib", "text/plain; charset=utf-8"),
    ("bin", "application/octet-stream"),
    ("bmp", "image/bmp"),
    ("br", "application/x-brotli"),
    ("bz2", "application/x-bzip2"),
    ("c", "text/plain; charset=utf-8"),
    ("cc", "text/plain; charset=utf-8"),
    ("cer", "application/x-x509-ca-cert"),
    ("cfg", "text/plain; charset=utf-8"),
    ("cjs", "text/javascript; charset=utf-8"),
    ("clj", "text/plain; charset=utf-8"),
    ("conf", "text/plain; charset=utf-8"),
    ("cpp", "text/plain; charset=utf-8"),
    ("crt", "application/x-x509-ca-cert"),
    ("crx", "application/x-chrome-extension"),
    ("cs", "text/plain; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("cur", "image/vnd.microsoft.icon"),
    ("dart", "text/plain; charset=utf-8"),
    ("dat", "application/octet-stream"),
    ("db", "application/vnd.sqlite3"),
    ("deb", "application/vnd.debian.binary-package"),
    ("der", "application/x-x509-ca-cert"),
    ("diff", "text/plain; charset=utf-8"),
    ("dll", "application/vnd.microsoft.portable-executable"),
    ("dmg", "application/x-apple-diskimage"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("ear", "application/java-archive"),
    ("eot", "application/vnd.ms-fontobject"),
    ("eps", "application/postscript"),
    ("epub", "application/epub+zip"),
    ("erl", "text/plain; charset=utf-8"),
    ("ex", "text/plain; charset=utf-8"),
    ("exe", "application/vnd.microsoft.portable-executable"),
    ("exs", "text/plain; charset=utf-8"),
    ("f", "text/plain; charset=utf-8"),
    ("f90", "text/plain; charset=utf-8"),
    ("flac", "audio/flac"),
    ("fs", "text/plain; charset=utf-8"),
    ("geojson", "application/geo+json"),
    ("gif", "image/gif"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("go", "text/plain; charset=utf-8"),
    ("gpx", "application/gpx+xml"),
    ("gql", "application/graphql"),
    ("graphql", "application/graphql"),
    ("gz", "application/gzip"),
    ("h", "text/plain; charset=utf-8"),
    ("har", "application/json"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("hpp", "text/plain; charset=utf-8"),
    ("hs", "text/plain; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("img", "application/x-iso9660-image"),
    ("ini", "text/plain; charset=utf-8"),
    ("inv", "application/octet-stream"),
    ("ipa", "application/octet-stream"),
    ("ipynb", "application/x-ipynb+json"),
    ("iso", "application/x-iso9660-image"),
    ("jar", "application/java-archive"),
    ("java", "text/plain; charset=utf-8"),
    ("jfif", "image/jpeg"),
    ("jl", "text/plain; charset=utf-8"),
    ("jp2", "image/jp2"),
    ("jpe", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("json5", "application/json5"),
    ("jsonl", "application/x-ndjson"),
    ("jsonld", "application/ld+json"),
    ("jsx", "text/plain; charset=utf-8"),
    ("jxl", "image/jxl"),
    ("kml", "application/vnd.google-earth.kml+xml"),
    ("kmz", "application/vnd.google-earth.kmz"),
    ("kt", "text/plain; charset=utf-8"),
    ("less", "text/plain; charset=utf-8"),
    ("log", "text/plain; charset=utf-8"),
    ("lua", "text/plain; charset=utf-8"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("m4v", "video/mp4"),
    ("map", "application/json"),
    ("markdown", "text/markdown; charset=utf-8"),
    ("mbtiles", "application/vnd.mapbox-vector-tile"),
    ("md", "text/markdown; charset=utf-8"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mka", "audio/matroska"),
    ("mkv", "video/matroska"),
    ("ml", "text/plain; charset=utf-8"),
    ("mobi", "application/x-mobipocket-ebook"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("msi", "application/x-msi"),
    ("mvt", "application/vnd.mapbox-vector-tile"),
    ("ndjson", "application/x-ndjson"),
    ("nim", "text/plain; charset=utf-8"),
    ("obj", "model/obj"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opml", "text/x-opml; charset=utf-8"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("p7c", "application/pkcs7-mime"),
    ("parquet", "application/vnd.apache.parquet"),
    ("patch", "text/plain; charset=utf-8"),
    ("pbf", "application/x-protobuf"),
    ("pdf", "application/pdf"),
    ("pem", "application/x-pem-file"),
    ("pl", "text/plain; charset=utf-8"),
    ("pmtiles", "application/vnd.pmtiles"),
    ("png", "image/png"),
    ("po", "text/plain; charset=utf-8"),
    ("pot", "text/plain; charset=utf-8"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("properties", "text/plain; charset=utf-8"),
    ("proto", "text/plain; charset=utf-8"),
    ("ps", "application/postscript"),
    ("ps1", "text/plain; charset=utf-8"),
    ("psd", "image/vnd.adobe.photoshop"),
    ("py", "text/x-python; charset=utf-8"),
    ("qt", "video/quicktime"),
    ("r", "text/plain; charset=utf-8"),
    ("rar", "application/vnd.rar"),
    ("rb", "text/plain; charset=utf-8"),
    ("rng", "application/xml"),
    ("rpm", "application/x-rpm"),
    ("rs", "text/plain; charset=utf-8"),
    ("rss", "application/rss+xml"),
    ("rst", "text/plain; charset=utf-8"),
    ("rtf", "application/rtf"),
    ("sass", "text/plain; charset=utf-8"),
    ("scala", "text/plain; charset=utf-8"),
    ("scss", "text/plain; charset=utf-8"),
    ("sh", "text/plain; charset=utf-8"),
    ("sig", "application/pgp-signature"),
    ("sql", "text/plain; charset=utf-8"),
    ("sqlite", "application/vnd.sqlite3"),
    ("sqlite3", "application/vnd.sqlite3"),
    ("srt", "application/x-subrip"),
    ("stl", "model/stl"),
    ("svelte", "text/plain; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("swf", "application/x-shockwave-flash"),
    ("swift", "text/plain; charset=utf-8"),
    ("tar", "application/x-tar"),
    ("tex", "application/x-tex"),
    ("text", "text/plain; charset=utf-8"),
    ("tgz", "application/gzip"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("toml", "application/toml"),
    ("topojson", "application/json"),
    ("torrent", "application/x-bittorrent"),
    ("ts", "text/plain; charset=utf-8"),
    ("tsv", "text/tab-separated-values; charset=utf-8"),
    ("tsx", "text/plain; charset=utf-8"),
    ("ttc", "font/collection"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("txz", "application/x-xz"),
    ("usdz", "model/vnd.usdz+zip"),
    ("vb", "text/plain; charset=utf-8"),
    ("vcard", "text/vcard; charset=utf-8"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("vue", "text/plain; charset=utf-8"),
    ("war", "application/java-archive"),
    ("wasm", "application/wasm"),
    ("wat", "text/plain; charset=utf-8"),
    ("wav", "audio/wav"),
    ("wbn", "application/webbundle"),
    ("weba", "audio/webm"),
    ("webbundle", "application/webbundle"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xht", "application/xhtml+xml"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "application/xml"),
    ("xpi", "application/x-xpinstall"),
    ("xsd", "application/xml"),
    ("xsl", "application/xslt+xml"),
    ("xslt", "application/xslt+xml"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zig", "text/plain; charset=utf-8"),
    ("zip", "application/zip"),
    ("zsh", "text/plain; charset=utf-8"),
    ("zst", "application/zstd"),
];

/// Longer extensions are not in the table.
const MAX_EXTENSION_BYTES: usize = 16;

/// The media type of the file at `path`, with `; charset=utf-8` for text.
pub fn by_path(path: &str) -> &'static str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let known = name.rsplit_once('.').and_then(|(_, extension)| by_extension(extension));
    // Files without an extension that sites are known to hold.
    known.unwrap_or(match name {
        "CNAME" | "LICENSE" | "README" | "AUTHORS" | "CHANGELOG" => "text/plain; charset=utf-8",
        "apple-app-site-association" => "application/json",
        _ => UNKNOWN,
    })
}

/// The media type of an extension (without its dot), in any case.
pub fn by_extension(extension: &str) -> Option<&'static str> {
    let mut lower = [0u8; MAX_EXTENSION_BYTES];
    let lower = lower.get_mut(..extension.len())?;
    lower.copy_from_slice(extension.as_bytes());
    lower.make_ascii_lowercase();
    let lower = &*lower;
    let at = BY_EXTENSION.binary_search_by(|(known, _)| known.as_bytes().cmp(lower)).ok()?;
    Some(BY_EXTENSION[at].1)
}

/// Whether files of this type shrink enough to be worth encoding: text and its relatives, and
/// the formats that are not compressed themselves.
pub fn is_compressible(media_type: &str) -> bool {
    const PLAIN: [&str; 25] = [
        "application/ecmascript",
        "application/graphql",
        "application/javascript",
        "application/json",
        "application/json5",
        "application/postscript",
        "application/rtf",
        "application/toml",
        "application/vnd.apple.mpegurl",
        "application/vnd.ms-fontobject",
        "application/wasm",
        "application/x-iso9660-image",
        "application/x-ndjson",
        "application/x-pem-file",
        "application/x-subrip",
        "application/x-tar",
        "application/x-tex",
        "application/xml",
        "application/yaml",
        "font/otf",
        "font/ttf",
        "font/collection",
        "image/bmp",
        "image/vnd.microsoft.icon",
        "model/obj",
    ];
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let has = |suffix: &str| {
        essence.len() > suffix.len()
            && essence.as_bytes()[essence.len() - suffix.len()..]
                .eq_ignore_ascii_case(suffix.as_bytes())
    };
    essence.get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/"))
        || has("+json")
        || has("+xml")
        || PLAIN.iter().any(|plain| essence.eq_ignore_ascii_case(plain))
}

/// Whether a path without a file could still be a page: its last name has no extension of the table
/// except HTML's. A browser that misses a script must not be given a page instead.
pub fn may_be_page(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    match name.rsplit_once('.').and_then(|(_, extension)| by_extension(extension)) {
        None => true,
        Some(media_type) => media_type.starts_with("text/html"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        for pair in BY_EXTENSION.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} {}", pair[0].0, pair[1].0);
        }
        for (extension, media_type) in BY_EXTENSION {
            assert!(extension.len() <= MAX_EXTENSION_BYTES);
            assert!(http::HeaderValue::from_str(media_type).is_ok());
            assert_eq!(media_type.starts_with("text/"), media_type.ends_with("; charset=utf-8"));
        }
    }

    #[test]
    fn files_have_the_type_of_their_extension() {
        for (path, media_type) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/B.HTML", "text/html; charset=utf-8"),
            ("app.3f2a.js", "text/javascript; charset=utf-8"),
            ("m.mjs", "text/javascript; charset=utf-8"),
            ("x.webmanifest", "application/manifest+json"),
            ("x.wasm", "application/wasm"),
            ("x.avif", "image/avif"),
            ("x.woff2", "font/woff2"),
            ("x.json", "application/json"),
            ("x.rs", "text/plain; charset=utf-8"),
            ("README.md", "text/markdown; charset=utf-8"),
            ("README", "text/plain; charset=utf-8"),
            ("a.tar.gz", "application/gzip"),
            ("noext", UNKNOWN),
            ("a.b/noext", UNKNOWN),
            ("trailing.", UNKNOWN),
            ("x.averyveryverylongextension", UNKNOWN),
            ("x.ü", UNKNOWN),
            ("", UNKNOWN),
        ] {
            assert_eq!(by_path(path), media_type, "{path}");
        }
    }

    #[test]
    fn what_is_compressed_already_is_left_alone() {
        for (media_type, expected) in [
            ("text/html; charset=utf-8", true),
            ("TEXT/CSS", true),
            ("application/json", true),
            ("application/ld+json", true),
            ("image/svg+xml", true),
            ("application/wasm", true),
            ("font/ttf", true),
            ("font/woff2", false),
            ("image/png", false),
            ("image/avif", false),
            ("video/mp4", false),
            ("application/zip", false),
            ("application/pdf", false),
            (UNKNOWN, false),
            ("", false),
        ] {
            assert_eq!(is_compressible(media_type), expected, "{media_type}");
        }
    }

    #[test]
    fn a_missing_asset_is_never_a_page() {
        for (path, expected) in [
            ("/users/42", true),
            ("/about.html", true),
            ("/v1.2/notes", true),
            ("/user/john.doe", true),
            ("/app.js", false),
            ("/favicon.ico", false),
            ("/x/main.css", false),
            ("/app.js.map", false),
        ] {
            assert_eq!(may_be_page(path), expected, "{path}");
        }
    }
}
