"""Tables in, batches out, forecasts back into tables; no network in here."""
