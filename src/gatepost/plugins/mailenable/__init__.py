"""The dialect "mailenable": libraries with one function, `Execute`, called at MAIL, RCPT, DATA and end-of-data.

What such a plugin is passed and what it may answer stands in MailEnable's SMTP Plugin Developer Guide; where the guide
is silent, `configuration` and `answers` say what is done here.
"""

from gatepost.plugins.mailenable.loading import load_mailenable
from gatepost.plugins.mailenable.options import MailEnableOptions

__all__ = ["MailEnableOptions", "load_mailenable"]
