"""Leaving one coin out of training after the other: does what is learned carry over to a coin never seen?"""
