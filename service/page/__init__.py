"""The web page: the API's own responses, rendered. Server-side templates, with all state in the address.

It reads what the API would give the same caller, through the same functions, and changes things by calling /v1 from the browser.
"""
