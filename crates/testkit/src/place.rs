//! Where are the edges of a test fleet, and from which networks do its visitors come?

use nigh_proto::state::Location;

/// A place that an edge may stand in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The name of the edge there.
    pub edge: &'static str,
    pub region: &'static str,
    /// As people write it.
    pub city: &'static str,
    pub latitude: f64,
    pub longitude: f64,
}

const fn place(
    edge: &'static str,
    region: &'static str,
    city: &'static str,
    latitude: f64,
    longitude: f64,
) -> Place {
    Place { edge, region, city, latitude, longitude }
}

/// Every place, in the order in which fleets grow.
pub const PLACES: [Place; 20] = [
    place("fra", "frankfurt", "Frankfurt", 50.11, 8.68),
    place("nyc", "new-york", "New York", 40.71, -74.01),
    place("sin", "singapore", "Singapore", 1.35, 103.82),
    place("gru", "sao-paulo", "São Paulo", -23.55, -46.63),
    place("syd", "sydney", "Sydney", -33.87, 151.21),
    place("jnb", "johannesburg", "Johannesburg", -26.20, 28.05),
    place("bom", "mumbai", "Mumbai", 19.08, 72.88),
    place("nrt", "tokyo", "Tokyo", 35.68, 139.69),
    place("lhr", "london", "London", 51.51, -0.13),
    place("lax", "los-angeles", "Los Angeles", 34.05, -118.24),
    place("dxb", "dubai", "Dubai", 25.20, 55.27),
    place("scl", "santiago", "Santiago", -33.45, -70.67),
    place("cdg", "paris", "Paris", 48.86, 2.35),
    place("yyz", "toronto", "Toronto", 43.65, -79.38),
    place("waw", "warsaw", "Warsaw", 52.23, 21.01),
    place("mad", "madrid", "Madrid", 40.42, -3.70),
    place("hkg", "hong-kong", "Hong Kong", 22.32, 114.17),
    place("icn", "seoul", "Seoul", 37.57, 126.98),
    place("ord", "chicago", "Chicago", 41.88, -87.63),
    place("mia", "miami", "Miami", 25.76, -80.19),
];

impl Place {
    /// The place whose edge is called `edge`.
    pub fn of_edge(edge: &str) -> Option<Place> {
        PLACES.into_iter().find(|place| place.edge == edge)
    }

    pub const fn location(&self) -> Location {
        Location { latitude: self.latitude, longitude: self.longitude }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nigh_proto::{MachineName, RegionName};

    use super::*;

    #[test]
    fn every_place_has_names_that_control_accepts() {
        for place in PLACES {
            place.edge.parse::<MachineName>().unwrap();
            place.region.parse::<RegionName>().unwrap();
            assert!(place.location().is_valid());
        }
        let edges: BTreeSet<_> = PLACES.iter().map(|place| place.edge).collect();
        assert_eq!(edges.len(), PLACES.len());
    }
}
