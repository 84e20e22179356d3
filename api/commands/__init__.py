"""Commands that need the API's code: `premise-server cache` and the doctor's part."""
