"""An engine under load, as a service would have it: driver, scenarios, worlds in this process and over HTTP."""
