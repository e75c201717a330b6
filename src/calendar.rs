//! Times as dates, in UTC. Not here: how a date is written (`respond`, `event_log`, `access_log`).

/// Year, month and day of a day since 1970, in the Gregorian calendar: counts from 1 March of year 0, so that the leap day is
/// the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Year, month, day, hour, minute and second of a second since 1970.
#[must_use]
pub fn moment(seconds: u64) -> [u64; 6] {
    let (year, month, day) = civil(seconds / 86_400);
    [year, month, day, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60]
}

/// The English name of a month, 1 to 12, as it is abbreviated.
#[must_use]
pub fn month_name(month: u64) -> &'static str {
    const NAMES: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let at = (month.clamp(1, 12) as usize - 1) * 3;
    &NAMES[at..at + 3]
}
