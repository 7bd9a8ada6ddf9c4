"""The words of the rubric (`data/RUBRIC.md`) that are not served: skills and turn kinds."""

_SKILLS = """recall obscure steps arithmetic algebra proof trap commonsense spatial temporal trace program debug design
lookup format count language style creative empathy plan judgement context tools longtext persona injection"""
_KINDS = "first followup revise correct why reply ack regenerate tool harness switch"

SKILLS = tuple(_SKILLS.split())
KINDS = tuple(_KINDS.split())
