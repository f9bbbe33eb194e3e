"""Response models: what the operations of the API return as JSON, as `/openapi.json` describes it."""
