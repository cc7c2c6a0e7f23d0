//! Every scenario, in as many orders as are asked for.

use apex_test_shuttle::{connecting, reading, try_orders};

macro_rules! tried {
    ($($room:ident::$scenario:ident),* $(,)?) => {$(
        #[test]
        fn $scenario() {
            try_orders($room::$scenario);
        }
    )*};
}

tried! {
    connecting::a_user_has_no_more_places_than_the_limit,
    connecting::everybody_leaves_a_hub_that_drains,
    connecting::nobody_slips_in_by_a_login_that_is_revoked,
    reading::a_reader_that_leaves_takes_nothing_with_it,
    reading::one_reader_begins_while_events_are_appended,
    reading::readers_who_share_what_they_read_miss_nothing,
}
