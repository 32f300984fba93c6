//! How far, and how long for a packet there and back?

use nigh_proto::state::Location;

/// The mean radius of the earth.
const EARTH_KM: f64 = 6_371.0;
/// What a path takes however short it is, and what each kilometre adds: fitted to measured round
/// trips between cities.
const RTT_BASE_MS: f64 = 12.0;
const RTT_MS_PER_KM: f64 = 0.0185;

/// Along the great circle (haversine formula).
pub fn distance_km(a: Location, b: Location) -> f64 {
    let (lat_a, lat_b) = (a.latitude.to_radians(), b.latitude.to_radians());
    let half_lat = (lat_b - lat_a) / 2.0;
    let half_lon = (b.longitude - a.longitude).to_radians() / 2.0;
    let h = half_lat.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_lon.sin().powi(2);
    2.0 * EARTH_KM * h.clamp(0.0, 1.0).sqrt().asin()
}

/// The round trip to expect over so many kilometres.
pub fn rtt_ms(distance_km: f64) -> f64 {
    RTT_BASE_MS + RTT_MS_PER_KM * distance_km
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_distances_are_met_within_one_percent() {
        let place = |latitude, longitude| Location { latitude, longitude };
        let (berlin, frankfurt) = (place(52.52, 13.405), place(50.11, 8.68));
        let (tokyo, new_york) = (place(35.68, 139.69), place(40.71, -74.01));
        for (a, b, km) in
            [(berlin, frankfurt, 424.0), (tokyo, new_york, 10_850.0), (berlin, berlin, 0.0)]
        {
            let distance = distance_km(a, b);
            assert!((distance - km).abs() <= km * 0.01, "{distance} is not {km}");
        }
        let antipode = distance_km(place(0.0, 0.0), place(0.0, 180.0));
        assert!((antipode - 20_015.0).abs() < 10.0, "{antipode}");
    }
}
