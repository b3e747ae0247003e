"""What the functions share.

Importing it keeps secrets out of the libraries' logs: at DEBUG, botocore logs each request
and answer with passwords and the session token, whatever level the function's log has.
"""

import logging

for _library in ("boto3", "botocore", "pymysql", "urllib3"):
    logging.getLogger(_library).setLevel(logging.INFO)
